"""The rows of resumable streams: what of an XEP-0198 session survives the process."""

from typing import NamedTuple

from homeserver.storage import resumption
from homeserver.storage.database import Database


class SavedStream(NamedTuple):
    """``received`` and ``sent`` count stanzas, ``position`` is a mailbox position, times are seconds since the epoch."""

    id: str
    account: int
    resource: str
    received: int
    sent: int
    position: int
    state: bytes
    updated: float
    expires: float


class Streams:
    """Writes ride in the group commit: a counter is durable together with the stanzas it counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, stream: SavedStream) -> None:
        """Durable when it returns."""
        await self._database.write(resumption.insert, *stream)

    async def load(self, stream: str) -> SavedStream | None:
        """The row, with everything that was committed before."""
        found = await self._database.read(resumption.load, stream)
        return None if found is None else SavedStream(*found)

    def counter(self, stream: str, received: int) -> None:
        """Into the open commit: how many stanzas of the client are handled."""
        self._database.commit.counter(stream, received)

    def position(self, stream: str, sent: int, position: int) -> None:
        """Into the open commit: what the client acknowledged."""
        self._database.commit.position(stream, sent, position)

    def state(self, stream: str, state: bytes, expires: float) -> None:
        """Into the open commit: wishes and presence."""
        self._database.commit.also(resumption.update_state, stream, state, expires)

    def forget(self, stream: str) -> None:
        """Into the open commit: the stream is over."""
        self._database.commit.also(resumption.delete, stream)

    async def expire(self, now: float) -> int:
        """Delete rows whose time is over; returns how many."""
        return await self._database.write(resumption.expire, now)
