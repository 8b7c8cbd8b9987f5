"""A store in PostgreSQL. Imported only by who uses one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from homeserver.storage import log_index, migrations, schema, search
from homeserver.storage.batch import BatchWriter, CrashPoint
from homeserver.storage.database import Database, StorageSection
from homeserver.storage.group_commit import GroupCommit
from homeserver.storage.task_committer import TaskCommitter
from homeserver.storage.turns import FreeTurns

P = ParamSpec("P")
T = TypeVar("T")


class PostgresqlDatabase(Database):
    """Reads on pooled connections; a read that meets a broken one is repeated once."""

    def __init__(self, write_engine: AsyncEngine, commit: GroupCommit | None, read_engine: AsyncEngine) -> None:
        super().__init__(commit, "postgresql")
        self._write_engine = write_engine
        self._read_engine = read_engine

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._read(lambda found: fn(found, *args, **kwargs))
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._read(lambda found: fn(found, *args, **kwargs))

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._write_engine.begin() as connection:
            return await connection.run_sync(lambda found: fn(found, *args, **kwargs))

    async def _read(self, fn: Callable[[Connection], T]) -> T:
        async with self._read_engine.connect() as connection:
            return await connection.run_sync(fn)


@asynccontextmanager
async def open_postgresql(
    section: StorageSection, owner: bool, stride: int, crash_point: CrashPoint
) -> AsyncIterator[Database]:
    """As `database.open_database`, which calls it."""
    url = section.url or ""
    async with AsyncExitStack() as stack:
        write_engine = postgresql_engine(url, section.readers)
        stack.push_async_callback(write_engine.dispose)
        async with write_engine.begin() as connection:
            await connection.run_sync(migrations.upgrade)
        read_engine = postgresql_engine(url, section.readers, read_only=True, check=False)
        stack.push_async_callback(read_engine.dispose)
        commit = None
        if owner:
            async with write_engine.begin() as connection:
                await connection.run_sync(log_index.ensure_state)
                await connection.run_sync(search.ensure)
                last = await connection.run_sync(log_index.last_id)
            engine = postgresql_engine(url, 1, check=False)
            stack.push_async_callback(engine.dispose)
            committer = TaskCommitter(engine, BatchWriter.of_server(schema.metadata, crash_point, stride))
            commit = GroupCommit(committer, FreeTurns(), None, crash_point, last_id=last)
            stack.push_async_callback(commit.close)
        yield PostgresqlDatabase(write_engine, commit, read_engine)


def postgresql_url(url: str) -> str:
    """``postgresql://...`` with our driver named; the rest is kept, the password too."""
    made = make_url(url)
    return made.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def postgresql_engine(url: str, size: int, read_only: bool = False, check: bool = True) -> AsyncEngine:
    """An asyncpg engine. Readers see one snapshot per read; ``check`` tries a pooled connection before its use."""
    options: dict[str, Any] = {}
    if read_only:
        options["isolation_level"] = "REPEATABLE READ"
    return create_async_engine(
        postgresql_url(url),
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=check,
        connect_args={"server_settings": {"application_name": "parley", "synchronous_commit": "on"}},
        **options,
    )
