"""Where a stanza goes: to a domain served here, or to another homeserver.

Messages that are stored take the message pipeline (``services/messaging.py``); this is the way of everything else:
presence, IQ, replies and errors.
"""

from collections.abc import Callable, Set
from functools import partial
from typing import Final, Protocol

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Message, Stored
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza, StanzaError, error_reply
from homeserver.services.outbox import Outbox

DURABLE_PRESENCE: Final = frozenset(("subscribe", "subscribed", "unsubscribe", "unsubscribed"))
"""Presence that changes what is stored on the other side; it must arrive."""
_ALWAYS: Final = frozenset(("error", "unavailable", "unsubscribe", "unsubscribed"))


class Attached(Protocol):
    """A service or a component that answers for a whole domain, or for a domain's own address."""

    def route(self, stanza: Stanza) -> None:
        """Take an IQ, a presence, or a message that is not stored. Never raises."""

    def submit(
        self,
        sender: Account | None,
        source: JID,
        message: Message,
        then: Callable[[Stored | None, BaseException | None], None],
    ) -> Stored | None:
        """Take a message of a local sender (its account), or of anyone else (None).

        ``then`` is called once, when the message is durable or handed over. Raises a `DomainError` where it is refused;
        then ``then`` is not called. Returns the message with its place where it has one and is new.
        """


class Router:
    """Knows which domains are served here.

    ``attached`` are services and components by domain; ``attach`` adds one. A domain of ours may be among them: what is
    attached there takes messages to the domain's own address.

    ``federates`` is whether other domains are reached at all; what is for them is refused or dropped otherwise.
    ``on_local`` is set once by the composition root to the function that takes stanzas for local addresses; so is
    ``guests``, the bare addresses of accounts that exchange nothing with other domains. ``hides`` tells
    whether an account keeps everything of its own from an address (XEP-0191 s3.3); only that it is unavailable, that a
    subscription ended, and errors are passed on then.
    """

    def __init__(self, domains: frozenset[str], outbox: Outbox, federates: bool = True) -> None:
        self._domains = domains
        self._outbox = outbox
        self.federates = federates
        self.on_local: Callable[[Stanza], None] | None = None
        self.hides: Callable[[JID, JID], bool] = lambda _sender, _to: False
        self.attached: dict[str, Attached] = {}
        self.guests: Set[str] = frozenset()

    @property
    def domains(self) -> frozenset[str]:
        return self._domains

    def is_local(self, domain: str) -> bool:
        """Whether accounts of this domain live here."""
        return domain in self._domains

    def attach(self, domain: str, service: Attached) -> None:
        """Give everything for a domain to a service. Raises ValueError where the domain is taken."""
        if domain in self.attached:
            raise ValueError(f"{domain} is taken by another service")
        self.attached[domain] = service

    def detach(self, domain: str) -> None:
        """Take a service out; its domain is unknown from then on."""
        self.attached.pop(domain, None)

    def is_served(self, domain: str) -> bool:
        """Whether this server answers for a domain: accounts live there, or a service is attached."""
        return domain in self._domains or domain in self.attached

    def bars(self, inside: JID, outside: JID) -> bool:
        """Whether ``inside`` is a guest and ``outside`` an address of another server."""
        return bool(self.guests) and inside.bare in self.guests and not self.is_served(outside.domain)

    def origin(self, domain: str) -> str:
        """The domain in whose name another server is written to: a service is spoken for by the domain it is under."""
        found = domain
        while found and found not in self._domains:
            found = found.partition(".")[2]
        return found or domain

    def is_own(self, jid: JID) -> bool:
        """Whether an address is one of our domains itself."""
        return not jid.local and jid.domain in self._domains

    def route(self, stanza: Stanza) -> None:
        """Pass a stanza on to its recipient. Never raises for one that is absent; does nothing without ``to``."""
        to = stanza.to
        if to is None or (stanza.type not in _ALWAYS and self.hides(stanza.sender, to)):
            return
        if to.domain in self._domains:
            if self.on_local is not None:
                self.on_local(stanza)
        elif to.domain in self.attached:
            self.attached[to.domain].route(stanza)
        elif self.bars(stanza.sender, to):
            if stanza.name == "iq" and stanza.type in ("get", "set"):
                self._unanswered(stanza, "not-allowed")
        elif self.is_served(stanza.sender.domain):
            self.send_away(stanza, to)

    def pass_on(self, stanza: Stanza) -> None:
        """`route` for a message that is worth nothing later: for another server it takes the passing lane."""
        to = stanza.to
        if to is None or self.is_served(to.domain):
            self.route(stanza)
            return
        is_ours = self.federates and self.is_served(stanza.sender.domain)
        if is_ours and not self.bars(stanza.sender, to) and not self.hides(stanza.sender, to):
            self._outbox.pass_on(self.origin(stanza.sender.domain), to.domain, stanza.encode())

    def send_away(self, stanza: Stanza, to: JID) -> None:
        """Pass a stanza on to the server of ``to``, also one that answers in the name of a guest."""
        origin, payload = self.origin(stanza.sender.domain), stanza.encode()
        asks = stanza.name == "iq" and stanza.type in ("get", "set")
        if not self.federates:
            if asks:
                self._unanswered(stanza, "remote-server-not-found")
        elif stanza.name == "iq":
            self._outbox.pass_on(origin, to.domain, payload, partial(self._unanswered, stanza) if asks else None)
        elif stanza.name == "presence" and stanza.type not in DURABLE_PRESENCE:
            self._outbox.pass_on(origin, to.domain, payload)
        else:
            self._outbox.enqueue(origin, to.domain, stanza.id, None, payload, str(stanza.sender))

    def _unanswered(self, request: Stanza, condition: str) -> None:
        """An IQ that never left is answered in the name of its addressee (RFC 6120 s8.3.3.16)."""
        reply = error_reply(request, StanzaError(condition))
        if request.to is not None:
            self.route(Stanza(reply, request.to, request.sender))
