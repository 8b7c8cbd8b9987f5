"""Messages of JSON clients: sent once, however often they are asked for.

A ``client_id`` is the idempotency key of its account. What was sent under it is kept in the same commit as the message,
so a client that lost the answer, or the server, may ask again for a week and gets the answer of the first time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from homeserver.domain.accounts import Account
from homeserver.domain.errors import Conflict
from homeserver.domain.messages import Message, Stored
from homeserver.services.messaging import not_stored
from homeserver.storage import client_messages as storage

if TYPE_CHECKING:
    from homeserver.protocol.jid import JID
    from homeserver.services.clock import Clock
    from homeserver.services.messaging import Messaging
    from homeserver.storage.database import Database

KEPT: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A durable message: its id (0 where such messages are not stored), its time in microseconds, sent before or not."""

    id: int
    at: int
    repeated: bool


class ClientMessages:
    """Sends for the JSON API."""

    def __init__(self, database: Database, messaging: Messaging, clock: Clock) -> None:
        self._database = database
        self._messaging = messaging
        self._clock = clock
        self._flying: dict[tuple[int, str], tuple[bytes, asyncio.Future[Sent]]] = {}

    async def send(self, sender: Account, source: JID, message: Message, digest: bytes) -> Sent:
        """Send once under ``message.origin_id``; returns when it is durable. Raises as `begin` does."""
        return await asyncio.shield(await self.begin(sender, source, message, digest))

    async def begin(self, sender: Account, source: JID, message: Message, digest: bytes) -> asyncio.Future[Sent]:
        """Put a message on its way; the future is done when it is durable.

        Messages whose `begin` is awaited one after the other keep that order. ``digest`` stands for all that the client
        asked for. Raises `Conflict` when the id stands for something else, and what `Messaging.submit` raises.
        """
        client_id = message.origin_id or ""
        key = (sender.id, client_id)
        flying = self._flying.get(key)
        if flying is not None:
            if flying[0] != digest:
                raise Conflict("this client_id was used for another message")
            return asyncio.ensure_future(_repeated(flying[1]))
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(partial(self._landed, key))
        self._flying[key] = (digest, answer)
        try:
            await self._submit(sender, source, message, digest, answer)
        except BaseException as error:
            # Who joined must ask again also when this caller merely went away.
            answer.set_exception(not_stored(None) if isinstance(error, asyncio.CancelledError) else error)
            raise
        return answer

    async def purge(self) -> None:
        """Forget ids that are over; to be called now and then."""
        await self._database.write(storage.drop_expired, self._clock.now())

    async def _submit(
        self, sender: Account, source: JID, message: Message, digest: bytes, answer: asyncio.Future[Sent]
    ) -> None:
        client_id = message.origin_id or ""
        known = await self._database.read(storage.find, sender.id, client_id, self._clock.now())
        if known is not None:
            if known.digest != digest:
                raise Conflict("this client_id was used for another message")
            answer.set_result(Sent(known.message, known.at, True))
            return
        if not self._messaging.knows(message.to, source, sender):
            await self._messaging.prepare(message.to, source, sender)
        placed: Stored | None = None

        def then(stored: Stored | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if stored is None:
                answer.set_exception(not_stored(error))
            else:
                answer.set_result(Sent(stored.id, stored.at, placed is None))

        placed = self._messaging.submit(sender, source, message, then)
        if placed is not None:
            # No await since `submit`: both are in the open batch, so in one transaction.
            made = storage.Known(digest, placed.id, placed.at)
            expires = self._clock.now() + KEPT
            self._database.commit.also(storage.keep, sender.id, client_id, made, expires)

    def _landed(self, key: tuple[int, str], answer: asyncio.Future[Sent]) -> None:
        del self._flying[key]
        if not answer.cancelled():
            answer.exception()  # read, so that a failure nobody waits for is not reported as lost


async def _repeated(first: asyncio.Future[Sent]) -> Sent:
    sent = await asyncio.shield(first)
    return Sent(sent.id, sent.at, True)
