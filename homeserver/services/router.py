"""Where a stanza goes: to a domain served here, or to another homeserver.

Messages that are stored take the message pipeline (``services/messaging.py``); this is the way of everything else:
presence, IQ, replies and errors.
"""

from collections.abc import Callable
from typing import Protocol

from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza


class RemoteLanes(Protocol):
    """What the router needs of the outbox."""

    def send(self, stanza: Stanza) -> None:
        """Queue a stanza for another domain, in the lane its kind demands (durable or passing)."""


class Router:
    """Knows which domains are served here.

    ``on_local`` is set once by the composition root to the function that takes stanzas for local addresses.
    """

    def __init__(self, domains: frozenset[str], remote: RemoteLanes) -> None:
        self._domains = domains
        self._remote = remote
        self.on_local: Callable[[Stanza], None] | None = None

    @property
    def domains(self) -> frozenset[str]:
        return self._domains

    def is_local(self, domain: str) -> bool:
        """Whether accounts of this domain live here."""
        return domain in self._domains

    def is_own(self, jid: JID) -> bool:
        """Whether an address is one of our domains itself."""
        return not jid.local and jid.domain in self._domains

    def route(self, stanza: Stanza) -> None:
        """Pass a stanza on to its recipient. Never raises for one that is absent; does nothing without ``to``."""
        if stanza.to is None:
            return
        if stanza.to.domain not in self._domains:
            self._remote.send(stanza)
        elif self.on_local is not None:
            self.on_local(stanza)
