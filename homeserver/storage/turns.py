"""Turn-taking between the group commit and the other writes of one process.

SQLite lets one connection write at a time and makes the others poll. Inside one process nobody polls: a write waits
for at most one batch, a batch for at most one write.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Turns:
    """Belongs to one loop; ``batch`` turns are taken with a callback, ``write`` turns with ``async with``."""

    def __init__(self) -> None:
        self._busy = False
        self._batch: Callable[[], None] | None = None
        self._writes: deque[asyncio.Future[None]] = deque()

    def take_for_batch(self, start: Callable[[], None]) -> None:
        """Call ``start`` when the batch may write: now, or after the write under way. One batch waits at a time."""
        if self._busy:
            self._batch = start
        else:
            self._busy = True
            start()

    def batch_done(self) -> None:
        """End the batch's turn; the longest waiting write goes first."""
        if not self._next_write():
            self._next_batch()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        """A turn for one transaction."""
        if self._busy:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._writes.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._write_done()
                raise
        else:
            self._busy = True
        try:
            yield
        finally:
            self._write_done()

    def _write_done(self) -> None:
        if self._batch is not None:
            self._next_batch()
        else:
            self._busy = self._next_write()

    def _next_batch(self) -> None:
        start, self._batch = self._batch, None
        self._busy = start is not None
        if start is not None:
            start()

    def _next_write(self) -> bool:
        while self._writes:
            turn = self._writes.popleft()
            if not turn.done():
                turn.set_result(None)
                return True
        return False


class FreeTurns(Turns):
    """Where the database itself lets transactions run side by side."""

    def take_for_batch(self, start: Callable[[], None]) -> None:
        start()

    def batch_done(self) -> None:
        """Nobody waited."""

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        yield
