"""Messages of JSON clients: sent once, however often they are asked for.

A ``client_id`` is the idempotency key of its account. What was sent under it is kept in the same commit as the message,
so a client that lost the answer, or the server, may ask again for a week and gets the answer of the first time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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
        """Send once under ``message.origin_id``; returns when it is durable.

        ``digest`` stands for all that the client asked for. Raises `Conflict` when the id stands for something else,
        and what `Messaging.send` raises.
        """
        client_id = message.origin_id or ""
        key = (sender.id, client_id)
        flying = self._flying.get(key)
        if flying is not None:
            if flying[0] != digest:
                raise Conflict("this client_id was used for another message")
            first = await asyncio.shield(flying[1])
            return Sent(first.id, first.at, True)
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._flying[key] = (digest, answer)
        try:
            sent = await self._first(sender, source, message, digest)
        except BaseException as error:
            # Who joined must ask again also when this caller merely went away.
            answer.set_exception(not_stored(error) if isinstance(error, asyncio.CancelledError) else error)
            raise
        else:
            answer.set_result(sent)
            return sent
        finally:
            del self._flying[key]

    async def purge(self) -> None:
        """Forget ids that are over; to be called now and then."""
        await self._database.write(storage.drop_expired, self._clock.now())

    async def _first(self, sender: Account, source: JID, message: Message, digest: bytes) -> Sent:
        client_id = message.origin_id or ""
        known = await self._database.read(storage.find, sender.id, client_id, self._clock.now())
        if known is not None:
            if known.digest != digest:
                raise Conflict("this client_id was used for another message")
            return Sent(known.message, known.at, True)
        if not self._messaging.knows(message.to):
            await self._messaging.prepare(message.to)
        durable: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        durable.add_done_callback(_seen)

        def then(stored: Stored | None, error: BaseException | None) -> None:
            if durable.done():
                return
            if stored is None:
                durable.set_exception(not_stored(error))
            else:
                durable.set_result(stored)

        placed = self._messaging.submit(sender, source, message, then)
        if placed is not None:
            # No await since `submit`: both are in the open batch, so in one transaction.
            made = storage.Known(digest, placed.id, placed.at)
            expires = self._clock.now() + KEPT
            self._database.commit.also(storage.keep, sender.id, client_id, made, expires)
        stored = await asyncio.shield(durable)
        return Sent(stored.id, stored.at, placed is None)


def _seen(future: asyncio.Future[Any]) -> None:
    """Reads the outcome, so that one nobody waits for any more is not reported as lost."""
    if not future.cancelled():
        future.exception()
