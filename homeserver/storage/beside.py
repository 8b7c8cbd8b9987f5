"""A SQLite store opened beside the server that may own it: the command line's way, through aiosqlite.

Imported only by who uses it. The server itself writes through a thread of its own (`database.SqliteDatabase`), because
this half of SQLAlchemy is a tenth of the time of a start.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from homeserver.storage import engines, migrations, owner_lock
from homeserver.storage.batch import CrashPoint
from homeserver.storage.database import Database, StorageSection

P = ParamSpec("P")
T = TypeVar("T")


class SqliteBeside(Database):
    """One connection for everything; there is no message path."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(None, "sqlite")
        self._engine = engine

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.write(fn, *args, **kwargs)

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(lambda found: fn(found, *args, **kwargs))


@asynccontextmanager
async def open_beside(
    section: StorageSection, _owner: bool, _stride: int, _crash_point: CrashPoint
) -> AsyncIterator[Database]:
    """As `database.open_database`, which calls it."""
    engines.create_private(section.path)
    async with AsyncExitStack() as stack:
        url = make_url("sqlite+aiosqlite://").set(database=str(section.path))
        engine = create_async_engine(url, pool_size=1, max_overflow=0)
        engines.prepare(engine.sync_engine, section.synchronous, read_only=False)
        # aiosqlite's thread is no daemon: without this the process would not end.
        stack.push_async_callback(engine.dispose)
        database = SqliteBeside(engine)
        if not await database.read(migrations.is_current):
            # Not under a server that runs on the old tables.
            with owner_lock.held(section.path):
                await database.write(migrations.upgrade)
        yield database
