"""The store: reads, writes, and the group commit of the message path."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from homeserver.storage import engines, log_index, migrations, owner_lock, schema, search
from homeserver.storage.batch import BatchWriter, CrashPoint
from homeserver.storage.committers import ThreadCommitter
from homeserver.storage.group_commit import GroupCommit
from homeserver.storage.log_index import Tail
from homeserver.storage.sql_threads import SqlThreads
from homeserver.storage.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")


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

    def __init__(self, commit: GroupCommit | None, name: str) -> None:
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

    @abstractmethod
    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, ...)`` in one transaction, commit, return what it returned."""

    async def share(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `write`, in the transaction of whoever else commits now: for what many do at once, such as logins."""
        done = asyncio.get_running_loop().create_future()
        found: list[T] = []

        def run(connection: Connection) -> None:
            found.append(fn(connection, *args, **kwargs))

        def then(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.commit.also(run, then=then)
        await done
        return found[-1]  # a batch that fails is run once more


class SqliteDatabase(Database):
    """Everything in plain threads."""

    def __init__(self, writer: SqlThreads, turns: Turns, commit: GroupCommit | None, readers: SqlThreads) -> None:
        super().__init__(commit, "sqlite")
        self._writer = writer
        self._turns = turns
        self._readers = readers

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _submit(self._readers, fn, *args, **kwargs)

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._turns.write():
            work = asyncio.ensure_future(_submit(self._writer, fn, *args, **kwargs))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # The thread goes on; the turn is given up when it has ended.
                await asyncio.wait([work])
                raise


async def _submit(
    threads: SqlThreads, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    if kwargs:
        found: T = await threads.submit(lambda connection: fn(connection, *args, **kwargs), ())
    else:
        found = await threads.submit(fn, args)
    return found


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
    opened = _open_sqlite
    if section.url:
        # Imported when it is needed: asyncpg and SQLAlchemy's half for it are a tenth of the time of a start.
        opened = import_module("homeserver.storage.postgresql").open_postgresql
    elif not owner:
        opened = import_module("homeserver.storage.beside").open_beside
    async with opened(section, owner, stride, crash_point) as database:
        yield database


@asynccontextmanager
async def _open_sqlite(
    section: StorageSection, _owner: bool, stride: int, crash_point: CrashPoint
) -> AsyncIterator[Database]:
    engines.create_private(section.path)
    async with AsyncExitStack() as stack:
        stack.enter_context(owner_lock.held(section.path))
        engine = engines.sqlite_engine(section.path, section.synchronous, read_only=False)
        writer = SqlThreads(engine, 1, "writer")
        stack.push_async_callback(writer.close)
        await writer.submit(migrations.upgrade, ())
        readers = SqlThreads(
            engines.sqlite_engine(section.path, section.synchronous, read_only=True), section.readers, "reader"
        )
        stack.push_async_callback(readers.close)
        turns = Turns()
        await writer.submit(log_index.ensure_state, ())
        await writer.submit(search.ensure, ())
        last: int = await writer.submit(log_index.last_id, ())
        while not await writer.submit(log_index.fill_rest, ()):
            pass
        committer = ThreadCommitter(engine, BatchWriter.of_server(schema.metadata, crash_point, stride))
        commit = GroupCommit(committer, turns, Tail(last), crash_point, last_id=last)
        stack.push_async_callback(commit.close)
        yield SqliteDatabase(writer, turns, commit, readers)
