"""Where batches are written: a thread for SQLite, a task for PostgreSQL."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from homeserver.storage.batch import AlsoFailed, Batch, BatchWriter

log = structlog.get_logger(__name__)

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


class TaskCommitter:
    """A task per batch on an asyncpg connection; outlives a restart of the database."""

    PATIENCE = 60.0
    """Seconds a batch is tried again before its callers are told that it failed."""

    _LONGEST_PAUSE: Final = 1.0

    def __init__(self, engine: AsyncEngine, writer: BatchWriter) -> None:
        self._engine = engine
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._marks = 0

    def write(self, batch: Batch, done: Done) -> None:
        self._marks += 1
        batch.mark = self._marks
        self._task = self._loop.create_task(self._report(batch, done), name="group commit")

    def fill(self, through: int, done: Done) -> None:
        """Entries are filled with their rows."""
        self._loop.call_soon(done, None)

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._connection is not None:
            try:
                await self._connection.run_sync(self._writer.forget_mark)
            except (DBAPIError, OSError) as error:
                log.info("commit mark left behind", error=str(error))
            await self._drop()

    async def _report(self, batch: Batch, done: Done) -> None:
        error: BaseException | None = None
        try:
            await self._write(batch)
        except asyncio.CancelledError:
            done(ConnectionError("the commit was cancelled"))
            raise
        except Exception as failure:  # noqa: BLE001 - reported to every caller of the batch
            error = failure
        done(error)

    async def _write(self, batch: Batch) -> None:
        """Write ``batch``; after a broken connection ask whether it arrived before trying again.

        Raises the last error when the database stays away for longer than `PATIENCE`.
        """
        deadline = self._loop.time() + self.PATIENCE
        pause = 0.02
        in_doubt = False
        while True:
            try:
                connection = self._connection or await self._engine.connect()
                self._connection = connection
                if in_doubt and await connection.run_sync(self._writer.was_committed, batch):
                    return
                in_doubt = True
                await connection.run_sync(self._writer.write, batch)
                return
            except AlsoFailed:
                in_doubt = False
            except (DBAPIError, OSError) as error:
                lost = not isinstance(error, DBAPIError) or error.connection_invalidated
                await self._drop()
                if not (lost or _may_retry(error)) or self._loop.time() > deadline:
                    raise
                log.warning("commit is tried again", error=str(error).partition("\n")[0], pause=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._LONGEST_PAUSE)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.invalidate()
            await connection.close()
        except (DBAPIError, OSError) as error:
            log.debug("connection closed badly", error=str(error))


_PASSING: Final = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "08006", "08003", "08000", "53300", "25006"})
"""SQLSTATE of serialisation failure, deadlock, shutdown, starting up, lost connection, too many connections, standby."""


def _may_retry(error: BaseException) -> bool:
    origin = getattr(error, "orig", None)
    return getattr(origin, "sqlstate", None) in _PASSING
