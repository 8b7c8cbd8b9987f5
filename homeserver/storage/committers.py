"""Where batches are written: a thread for SQLite, a task for PostgreSQL (`task_committer`)."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection, Engine

from homeserver.storage.batch import AlsoFailed, Batch, BatchWriter

Done = Callable[[BaseException | None], None]


class Committer(Protocol):
    """Writes one batch at a time; ``done`` is called on the loop with None or the error."""

    def write(self, batch: Batch, done: Done) -> None: ...

    def fill(self, through: int, done: Done) -> None:
        """Give entries to the log up to ``through`` (`log_index.fill`)."""

    async def close(self) -> None:
        """End after the work under way. Nothing may be submitted any more."""


class ThreadCommitter:
    """A plain thread with one connection: a batch costs two thread hops and no task."""

    def __init__(self, engine: Engine, writer: BatchWriter) -> None:
        self._engine = engine
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Callable[[Connection], None], Done] | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="group-commit")
        self._thread.start()

    def write(self, batch: Batch, done: Done) -> None:
        def job(connection: Connection) -> None:
            try:
                self._writer.write(connection, batch)
            except AlsoFailed:
                self._writer.write(connection, batch)

        self._jobs.put((job, done))

    def fill(self, through: int, done: Done) -> None:
        self._jobs.put((lambda connection: self._writer.fill(connection, through), done))

    async def close(self) -> None:
        self._jobs.put(None)
        await self._ended
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while (work := self._jobs.get()) is not None:
            job, done = work
            error: BaseException | None = None
            try:
                connection = connection or self._engine.connect()
                job(connection)
            except Exception as failure:  # noqa: BLE001 - reported to every caller of the batch
                error = failure
                _discard(connection)
                connection = None
            self._loop.call_soon_threadsafe(done, error)
        if connection is not None:
            connection.close()
        self._loop.call_soon_threadsafe(self._ended.set_result, None)


def _discard(connection: Connection | None) -> None:
    """Give up a connection in doubt; closing rolls back what was open."""
    if connection is not None:
        connection.invalidate()
        connection.close()
