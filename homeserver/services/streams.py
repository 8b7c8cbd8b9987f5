"""The rows of resumable streams: what of an XEP-0198 session survives the process."""

from homeserver.services.clock import Clock
from homeserver.storage import resumption
from homeserver.storage.database import Database
from homeserver.storage.resumption import ResumableStream

__all__ = ["ResumableStream", "Streams"]


class Streams:
    """Writes ride in the group commit: a counter is durable together with the stanzas it counts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, stream: ResumableStream) -> None:
        """Durable when it returns."""
        await self._database.share(resumption.add, stream)

    async def find(self, stream: str) -> ResumableStream | None:
        """The row with everything that was committed before, unless its time is over."""
        return await self._database.read(resumption.find, stream, self._clock.now())

    def counter(self, stream: str, received: int) -> None:
        """Into the open commit: how many stanzas of the client are handled."""
        self._database.commit.counter(stream, received)

    def position(self, stream: str, sent: int, position: int) -> None:
        """Into the open commit: how many stanzas the client acknowledged, and the last message among them."""
        self._database.commit.position(stream, sent, position)

    def mark(self, stream: str, sent: int, position: int) -> None:
        """With the next commit, whatever brings it: what the client was sent."""
        self._database.commit.mark(stream, sent, position)

    def keep(self, stream: str, state: bytes, expires: float) -> None:
        """Into the open commit: wishes and presence."""
        self._database.commit.also(resumption.keep, stream, state, self._clock.now(), expires)

    def forget(self, stream: str) -> None:
        """Into the open commit: the stream is over."""
        self._database.commit.also(resumption.remove, stream)

    def forget_client(self, account: int, client: str) -> None:
        """Into the open commit: the streams of one client (the id of its user agent) are over."""
        self._database.commit.also(resumption.remove_of, account, client)

    async def forget_of(self, account: int) -> None:
        """The streams of an account are over."""
        await self._database.write(resumption.remove_of, account)

    async def expire(self) -> int:
        """Remove rows whose time is over; returns how many."""
        return len(await self._database.write(resumption.expire, self._clock.now()))
