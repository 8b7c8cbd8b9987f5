"""The store: reads, writes, and the group commit of the message path."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from homeserver.storage import engines, log_index, migrations, owner_lock, schema
from homeserver.storage.batch import BatchWriter, CrashPoint
from homeserver.storage.committers import TaskCommitter, ThreadCommitter
from homeserver.storage.group_commit import GroupCommit
from homeserver.storage.log_index import Tail
from homeserver.storage.readers import Readers
from homeserver.storage.turns import FreeTurns, Turns

P = ParamSpec("P")
T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]


class StorageSection(Protocol):
    """The settings this module needs: a SQLite file, or PostgreSQL when ``url`` is set."""

    @property
    def path(self) -> Path: ...
    @property
    def url(self) -> str | None: ...
    @property
    def synchronous(self) -> str: ...
    @property
    def readers(self) -> int: ...


def _nothing(_point: str) -> None:
    """No test wants the process to end here."""


class Database(ABC):
    """An open store. Functions given to it are plain functions of a `sqlalchemy.Connection` in this package."""

    def __init__(self, write_engine: AsyncEngine, turns: Turns, commit: GroupCommit | None, name: str) -> None:
        self._write_engine = write_engine
        self._turns = turns
        self._commit = commit
        self.name = name
        """``sqlite`` or ``postgresql``."""

    @property
    def commit(self) -> GroupCommit:
        """The message path. Raises RuntimeError in a process that does not own the store (the command line)."""
        if self._commit is None:
            raise RuntimeError("this process opened the store without the message path")
        return self._commit

    @abstractmethod
    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, ...)`` in one snapshot and return what it returns."""

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, ...)`` in one transaction, commit, return what it returned."""
        async with self._turns.write(), self._write_engine.begin() as connection:
            return await connection.run_sync(lambda found: fn(found, *args, **kwargs))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Run]:
        """Several functions in one transaction: ``await run(fn, *args)``. Everybody else's writes wait meanwhile."""
        async with self._turns.write(), self._write_engine.begin() as connection:

            async def run(fn: Callable[..., Any], *args: Any) -> Any:
                return await connection.run_sync(lambda found: fn(found, *args))

            yield run


class SqliteDatabase(Database):
    """Reads in plain threads."""

    def __init__(self, write_engine: AsyncEngine, turns: Turns, commit: GroupCommit | None, readers: Readers) -> None:
        super().__init__(write_engine, turns, commit, "sqlite")
        self._readers = readers

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs:
            found: T = await self._readers.submit(lambda connection: fn(connection, *args, **kwargs), ())
        else:
            found = await self._readers.submit(fn, args)
        return found


class PostgresqlDatabase(Database):
    """Reads on pooled connections; a read that meets a broken one is repeated once."""

    def __init__(
        self, write_engine: AsyncEngine, turns: Turns, commit: GroupCommit | None, read_engine: AsyncEngine
    ) -> None:
        super().__init__(write_engine, turns, commit, "postgresql")
        self._read_engine = read_engine

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._read(lambda found: fn(found, *args, **kwargs))
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._read(lambda found: fn(found, *args, **kwargs))

    async def _read(self, fn: Callable[[Connection], T]) -> T:
        async with self._read_engine.connect() as connection:
            return await connection.run_sync(fn)


@asynccontextmanager
async def open_database(
    section: StorageSection,
    *,
    owner: bool = True,
    stride: int = 1,
    crash_point: CrashPoint = _nothing,
) -> AsyncIterator[Database]:
    """Open the store, bring its tables up to date, close it at the end with everything queued committed.

    ``owner`` is the server: it takes the message path, on SQLite as the only process. The command line opens with
    ``owner=False`` beside it and has no `Database.commit`. ``stride`` is the number of nodes that share a PostgreSQL
    store, as given to `domain/ids.py: IdSource`. Raises `owner_lock.StoreInUse`, `migrations.StoreTooNew` and what
    the database raises.
    """
    opened = _open_postgresql if section.url else _open_sqlite
    async with opened(section, owner, stride, crash_point) as database:
        yield database


@asynccontextmanager
async def _open_sqlite(
    section: StorageSection, owner: bool, stride: int, crash_point: CrashPoint
) -> AsyncIterator[Database]:
    engines.create_private(section.path)
    async with AsyncExitStack() as stack:
        stack.enter_context(owner_lock.held(section.path) if owner else nullcontext())
        write_engine = engines.sqlite_async_engine(section.path, section.synchronous)
        stack.push_async_callback(write_engine.dispose)
        if owner:
            await migrations.upgrade(write_engine)
        elif not await migrations.is_current(write_engine):
            with owner_lock.held(section.path):
                await migrations.upgrade(write_engine)
        read_engine = engines.sqlite_engine(section.path, section.synchronous, read_only=True)
        readers = Readers(read_engine, section.readers)
        stack.push_async_callback(readers.close)
        turns = Turns()
        commit = None
        if owner:
            last = await _catch_up(write_engine, fill=True)
            engine = engines.sqlite_engine(section.path, section.synchronous, read_only=False)
            committer = ThreadCommitter(engine, _writer(crash_point, stride))
            commit = GroupCommit(committer, turns, Tail(last), crash_point, last_id=last)
            stack.push_async_callback(commit.close)
        yield SqliteDatabase(write_engine, turns, commit, readers)


@asynccontextmanager
async def _open_postgresql(
    section: StorageSection, owner: bool, stride: int, crash_point: CrashPoint
) -> AsyncIterator[Database]:
    url = section.url or ""
    async with AsyncExitStack() as stack:
        write_engine = engines.postgresql_engine(url, section.readers)
        stack.push_async_callback(write_engine.dispose)
        await migrations.upgrade(write_engine)
        read_engine = engines.postgresql_engine(url, section.readers, read_only=True, check=False)
        stack.push_async_callback(read_engine.dispose)
        turns = FreeTurns()
        commit = None
        if owner:
            last = await _catch_up(write_engine, fill=False)
            engine = engines.postgresql_engine(url, 1, check=False)
            stack.push_async_callback(engine.dispose)
            committer = TaskCommitter(engine, _writer(crash_point, stride))
            commit = GroupCommit(committer, turns, None, crash_point, last_id=last)
            stack.push_async_callback(commit.close)
        yield PostgresqlDatabase(write_engine, turns, commit, read_engine)


def _writer(crash_point: CrashPoint, stride: int) -> BatchWriter:
    return BatchWriter(secrets.token_hex(8), schema.metadata.tables.get("outbox"), crash_point, stride)


async def _catch_up(engine: AsyncEngine, fill: bool) -> int:
    """Fill the entries an earlier process did not get to; return the highest id of the log."""
    async with engine.begin() as connection:
        await connection.run_sync(log_index.ensure_state)
        last = await connection.run_sync(log_index.last_id)
    done = not fill
    while not done:
        async with engine.begin() as connection:
            done = await connection.run_sync(log_index.fill_rest)
    return last
