"""One message for several addresses: counted for each of them, told once when all are durable.

Each recipient's copy is a message of its own, in the conversation with that recipient. All that are stored here are in
one commit.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import DomainError, NotAcceptable, RateLimited, ResourceConstraint
from homeserver.domain.messages import Message, Stored
from homeserver.protocol.jid import JID
from homeserver.services.limits import Limit, Limits
from homeserver.services.messaging import Messaging, Then

MAX_WAITING: Final = 100
"""Broadcasts at a time that wait for accounts to be looked up."""

Refused = Callable[[Message, DomainError], None]
"""Told of each copy that its recipient's side does not take."""


class Broadcasts:
    """``most`` is how many addresses one message may have."""

    def __init__(self, messaging: Messaging, limits: Limits, most: int) -> None:
        self._messaging = messaging
        self._limits = limits
        self._waiting: set[asyncio.Task[None]] = set()
        self.most = most

    def bound(self, addresses: int) -> None:
        """Raises `NotAcceptable` where there are too many."""
        if addresses > self.most:
            raise NotAcceptable(f"More than {self.most} addresses")

    def charge(self, sender: Account, addresses: int) -> None:
        """Count every address as a stanza of the sender, which one stanza was counted for: its clients are read the more
        slowly."""
        self._limits.bucket(Limit.STANZA_ACCOUNT, sender.jid.bare).charge(addresses - 1)

    def take(self, sender: Account, addresses: int, peer: str) -> None:
        """Count every address as a stanza of the sender, whose request came from the address ``peer``.

        Raises `RateLimited` where it sent too much before.
        """
        if self._limits.exempt(peer):
            return
        bucket = self._limits.bucket(Limit.STANZA_ACCOUNT, sender.jid.bare)
        wait = self._limits.take(Limit.STANZA_ACCOUNT, sender.jid.bare, min(addresses, bucket.capacity))
        if wait:
            raise RateLimited("too many messages", wait)

    async def prepare(self, sender: Account, source: JID, recipients: Iterable[JID]) -> None:
        """Load what `submit` must know, so that it need not wait."""
        for recipient in recipients:
            if not self._messaging.knows(recipient, source, sender):
                await self._messaging.prepare(recipient, source, sender)

    def submit(self, sender: Account, source: JID, copies: Sequence[Message], refused: Refused, then: Then) -> None:
        """Send one copy to each recipient. ``then`` is called once, when all that was taken is durable, with one of them,
        or with None where every copy was refused.

        Raises `ResourceConstraint` where too many wait; then nothing was sent.
        """
        if all(self._messaging.knows(copy.to, source, sender) for copy in copies):
            self._spread(sender, source, copies, refused, then)
            return
        if len(self._waiting) >= MAX_WAITING:
            raise ResourceConstraint("Too many accounts are being looked up, send it again")
        task = asyncio.create_task(self._spread_later(sender, source, copies, refused, then))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def settle(self) -> None:
        """Wait for what is being sent."""
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _spread_later(
        self, sender: Account, source: JID, copies: Sequence[Message], refused: Refused, then: Then
    ) -> None:
        try:
            await self.prepare(sender, source, [copy.to for copy in copies])
        except Exception as error:  # noqa: BLE001 - the sender is told
            then(None, error)
            return
        self._spread(sender, source, copies, refused, then)

    def _spread(self, sender: Account, source: JID, copies: Sequence[Message], refused: Refused, then: Then) -> None:
        gathered = _Gathered(len(copies), then)
        for copy in copies:
            try:
                self._messaging.submit(sender, source, copy, gathered.one)
            except DomainError as refusal:
                refused(copy, refusal)
                gathered.one(None, None)


class _Gathered:
    """Many answers that become one."""

    def __init__(self, open_: int, then: Then) -> None:
        self._open = open_
        self._then = then
        self._stored: Stored | None = None
        self._error: BaseException | None = None

    def one(self, stored: Stored | None, error: BaseException | None) -> None:
        """Another copy is durable, or was refused, or could not be stored."""
        self._open -= 1
        self._stored = self._stored or stored
        self._error = self._error or error
        if not self._open:
            self._then(None if self._error is not None else self._stored, self._error)
