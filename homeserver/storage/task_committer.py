"""The group commit's writer on PostgreSQL: a task per batch, which outlives a restart of the database."""

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from homeserver.storage.batch import AlsoFailed, Batch, BatchWriter
from homeserver.storage.committers import Done

log = structlog.get_logger(__name__)


class TaskCommitter:
    """A task per batch on an asyncpg connection; outlives a restart of the database."""

    PATIENCE = 60.0
    """Seconds a batch is tried again before its callers are told that it failed."""

    ATTEMPT = 15.0
    """Seconds for one try. A database that dies in the middle may leave a connection that never answers."""

    _LONGEST_PAUSE: Final = 1.0
    _CLOSING: Final = 2.0

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
                async with asyncio.timeout(self.ATTEMPT):
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
                log.warning("commit is tried again", error=(str(error) or "no answer").partition("\n")[0], pause=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._LONGEST_PAUSE)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(self._CLOSING):
                await connection.invalidate()
                await connection.close()
        except TimeoutError:
            log.warning("connection to the database does not close")
            await self._engine.dispose(close=False)  # its place in the pool with it
        except (DBAPIError, OSError) as error:
            log.debug("connection closed badly", error=str(error))


_PASSING: Final = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "08006", "08003", "08000", "53300", "25006"})
"""SQLSTATE of serialisation failure, deadlock, shutdown, starting up, lost connection, too many connections, standby."""


def _may_retry(error: BaseException) -> bool:
    origin = getattr(error, "orig", None)
    return getattr(origin, "sqlstate", None) in _PASSING
