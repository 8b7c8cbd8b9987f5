"""What becomes of stanzas that passed the gate, and of those that came back.

The last step of federation's inbound path and the only one that knows the services: messages go to the mailbox within
the open batch, everything else to the dispatcher. A message for nobody is answered in the durable lane, within the same
transaction, so the answer is as sure as the delivery would have been (RFC 6121 s8.5.1).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from homeserver.domain.errors import DomainError
from homeserver.domain.messages import Message, Stored, Treatment
from homeserver.protocol.stanza import Stanza, error_reply
from homeserver.services.accounts import Accounts
from homeserver.services.messaging import Messaging
from homeserver.services.privacy import Privacy
from homeserver.services.router import Router
from homeserver.xmpp.core_message import Reader
from homeserver.xmpp.dispatch import Dispatcher
from homeserver.xmpp.errors import stanza_error


class Arrivals:
    """Implements `federation.inbound.InboundSink`."""

    def __init__(self, messaging: Messaging, dispatcher: Dispatcher, router: Router) -> None:
        self._messaging = messaging
        self._dispatcher = dispatcher
        self._router = router
        self._reader = Reader(router.domains)

    async def prepare(self, messages: Sequence[Stanza]) -> None:
        """Load what `message` will ask for."""
        for stanza in messages:
            if stanza.to is not None and not self._messaging.knows(stanza.to, stanza.sender):
                await self._messaging.prepare(stanza.to, stanza.sender)

    def message(self, origin: str, stanza: Stanza, payload: bytes | None) -> None:
        """Take a durable message into the open batch."""
        try:
            self._messaging.receive(self._reader.read_from_peer(stanza, payload), _owes_nothing)
        except DomainError as refusal:
            if stanza.type != "error" and stanza.to is not None:
                reply = error_reply(stanza, stanza_error(refusal))
                self._router.send_away(Stanza(reply, stanza.to, stanza.sender), stanza.sender)

    async def subscription(self, origin: str, stanza: Stanza) -> None:
        """Apply a subscription stanza; it is durable when this returns."""
        waiting = self._dispatcher.inbound(stanza)
        if waiting is not None:
            await waiting

    def passing(self, origin: str, stanza: Stanza) -> Awaitable[None] | None:
        """Take presence, an IQ or a message that is not stored."""
        return self._dispatcher.inbound(stanza)


class Returned:
    """Implements `homeserver.services.returns.Returns`: tells local senders what could not be delivered.

    A sender who is away is told when it comes back: the error waits in the mailbox like a message.
    """

    def __init__(self) -> None:
        self._take: Callable[[Message], None] | None = None
        self._find: Callable[[str], Awaitable[object]] | None = None
        self._route: Callable[[Stanza], None] | None = None
        self._is_here: Callable[[str], bool] = lambda _: True
        self._reader: Reader | None = None

    def connect(self, accounts: Accounts, messaging: Messaging, router: Router, privacy: Privacy) -> None:
        """Give it the services that are built after the outbox."""

        async def find(bare: str) -> None:
            account = await accounts.find(bare)
            if account is not None:
                await privacy.load(account)

        self._find = find
        self._reader = Reader(router.domains)
        self._route = router.route
        self._is_here = router.is_served
        self._take = lambda message: messaging.receive(message, _owes_nothing)

    async def prepare(self, senders: Sequence[str]) -> None:
        """Load the accounts of the senders."""
        if self._find is not None:
            await asyncio.gather(*(self._find(bare) for bare in senders))

    def returned(self, stanza: Stanza) -> None:
        """Queue the error into the open batch."""
        if self._reader is None or self._take is None or self._route is None:
            raise RuntimeError("returned stanzas have no way yet")
        if stanza.name != "message" or stanza.to is None or not self._is_here(stanza.to.domain):
            self._route(stanza)
            return
        message = self._reader.read_from_peer(stanza, None)
        try:
            self._take(replace(message, treatment=message.treatment | Treatment.KEEP))
        except DomainError:
            return  # the sender's account is gone


def _owes_nothing(_stored: Stored | None, _error: BaseException | None) -> None:
    """The batch answers for the message."""
