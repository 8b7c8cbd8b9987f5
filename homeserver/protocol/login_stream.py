"""The part of a client's stream that ends when a resource is bound: commands that answer the questions of the login."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from homeserver.protocol import namespaces as ns
from homeserver.protocol.binding import Binding, failed
from homeserver.protocol.fast import IssuedToken
from homeserver.protocol.features import StreamLimits, StreamOptions
from homeserver.protocol.framing import Framing
from homeserver.protocol.jid import JID
from homeserver.protocol.negotiation import Negotiation
from homeserver.protocol.parser import Item
from homeserver.protocol.scram import Verifier
from homeserver.protocol.sm import WRAP, HandledCountTooHigh, SentItem, SentQueue
from homeserver.protocol.stream import ProtocolMisuse, State, Stream, attribute
from homeserver.protocol.stream_events import Event, StreamFailed
from homeserver.protocol.upgrade import Salt
from homeserver.protocol.xml import Element


class LoginStream(Stream, ABC):
    """Holds the negotiation while there is one. `ServerStream` adds the rest."""

    __slots__ = ("_deadline", "_handled", "_limits", "_negotiation", "_position", "jid", "queue")

    def __init__(
        self, framing: Framing, limits: StreamLimits, options: StreamOptions, now: float, make_id: Callable[[], str]
    ) -> None:
        super().__init__(framing, options.default_domain)
        framing.limits = limits.before_login
        self._limits = limits
        self._deadline: float | None = now + limits.login_seconds
        self._negotiation: Negotiation | None = Negotiation(self, options, limits, make_id)
        self._position = 0  # the last stanza received, counted since stream management began
        self._handled = 0  # all up to this one are safe
        self.queue: SentQueue | None = None
        self.jid: JID | None = None

    @abstractmethod
    def _take(self, items: list[Item], events: list[Event]) -> None:
        """Deal with what the parser found."""

    def _login(self) -> Negotiation:
        if self._negotiation is None or self.state in (State.CLOSING, State.CLOSED):
            raise ProtocolMisuse(f"stream is {self.state.name}")
        return self._negotiation

    def _binding(self) -> Binding:
        binding = self._login().binding
        if binding is None:
            raise ProtocolMisuse("nobody is logged in")
        return binding

    def start_tls(self) -> None:
        """Send the answer to `TlsRequested`; begin the handshake when it is written."""
        self._login().start_tls()

    def tls_established(self, bindings: Mapping[str, bytes]) -> None:
        """The handshake is done; ``bindings`` are the channel's, type to data. The client opens its stream anew."""
        login = self._login()
        if self.state is not State.SECURING:
            raise ProtocolMisuse("no TLS was asked for")
        login.secure = True
        login.bindings = dict(bindings)
        self.framing.restart()
        self.opened = False
        self.state = State.OPENING

    def tls_refused(self) -> None:
        """TLS is not to be had; the stream is over (RFC 6120 s5.4.2.2)."""
        self._login().tls_refused()
        self._deadline = None

    def verifier(self, found: Verifier) -> None:
        """Answer `VerifierNeeded`; where no such account may log in, with a `decoy_verifier`."""
        self._login().answer(found)
        self._settle()

    def tokens(self, found: Sequence[bytes]) -> None:
        """Answer `TokensNeeded`; with none where the client has none."""
        self._login().answer(found)
        self._settle()

    def upgrades(self, salts: Sequence[Salt]) -> None:
        """Answer `UpgradesWanted`."""
        self._login().upgrades(salts)
        self._settle()

    def upgraded(self) -> None:
        """Answer `UpgradeOffered`."""
        self._login().upgraded()
        self._settle()

    def password_result(self, is_right: bool) -> None:
        """Answer `PasswordPresented`."""
        self._login().answer(is_right)
        self._settle()

    def accept(self, issued: IssuedToken | None = None) -> None:
        """Answer `Authenticated`: let the account in; ``issued`` is a token for its client (XEP-0484 s3.3)."""
        self._login().accept(issued)
        self._settle()

    def reject(self, condition: str, text: str = "") -> None:
        """Answer `Authenticated` or another question of the login with a refusal of RFC 6120 s6.5."""
        self._login().reject(condition, text)
        self._settle()

    def bound(self, jid: JID, extra: Sequence[Element] = ()) -> None:
        """Answer `BindRequested`; ``extra`` goes into the answer of Bind 2 (archive metadata)."""
        if self._binding().bound(jid, extra):
            self.state = State.BOUND
        self.jid = jid
        self._settle()

    def bind_failed(self, condition: str) -> None:
        """Answer `BindRequested` with a stanza error: ``conflict``, ``resource-constraint``, ``bad-request``."""
        self._binding().bind_failed(condition)
        self._settle()

    def resumed(self, queue: SentQueue, h: int, handled: int, jid: JID | None = None) -> list[SentItem] | None:
        """Answer `ResumeRequested`: the old session goes on here.

        ``queue`` is what it had not got acknowledged, ``h`` the client's count from the request, ``handled`` how many
        of the client's stanzas the session has handled, ``jid`` the session's full JID, which SASL2 tells (XEP-0388
        s2.6). What ``h`` leaves in the queue is sent again. Returns what ``h`` released, or None if it is too high and
        the stream failed.
        """
        binding = self._binding()
        binding.demand_resuming()
        try:
            released = queue.acknowledged(h)
        except HandledCountTooHigh as error:
            self._login().events.append(self._too_high(error))
            return None
        previd = attribute("previd", binding.previd)
        binding.resumed(f"<resumed xmlns='{ns.STREAM_MANAGEMENT}' h='{handled % WRAP}'{previd}/>", jid)
        self.queue = queue
        self.is_managed = True
        self._position = self._handled = handled
        self.state = State.BOUND
        for item in queue.unacknowledged():
            self._out.append(self.framing.element(item.data))
        if len(queue):
            self.write(f"<r xmlns='{ns.STREAM_MANAGEMENT}'/>")
        self._settle()
        return released

    def resume_failed(self, condition: str, h: int | None = None) -> None:
        """Answer `ResumeRequested`: ``item-not-found``; ``h`` is how far the lost session had come, if known."""
        self._binding().resume_failed(failed(condition, h))
        self._settle()

    def _too_high(self, error: HandledCountTooHigh) -> StreamFailed:
        """XEP-0198 s4."""
        self._deadline = None
        detail = f"<handled-count-too-high xmlns='{ns.STREAM_MANAGEMENT}' h='{error.h}' send-count='{error.sent}'/>"
        return self.fail("undefined-condition", "", detail)

    def _settle(self) -> None:
        """After an answer: take what had to wait, drop what is not needed any more."""
        negotiation = self._negotiation
        assert negotiation is not None
        if self.state is State.BOUND:
            self._negotiation = None
        if self.state in (State.BOUND, State.CLOSED):
            self._deadline = None
        if self.state in (State.BOUND, State.AUTHENTICATED) and negotiation.waiting:
            waiting = negotiation.waiting
            negotiation.waiting = []
            self._take(waiting, negotiation.events)
