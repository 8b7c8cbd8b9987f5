"""A database for tests of services that do not touch the message path."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from homeserver.storage.schema import metadata


class PlainDatabase:
    """The read and write calls of the server's database on SQLite in memory."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self.engine)
        self._turn = asyncio.Lock()

    async def read(self, work: Callable[..., Any], *args: Any) -> Any:
        return await self.write(work, *args)

    async def share(self, work: Callable[..., Any], *args: Any) -> Any:
        return await self.write(work, *args)

    async def write(self, work: Callable[..., Any], *args: Any) -> Any:
        def run() -> Any:
            with self.engine.begin() as connection:
                return work(connection, *args)

        async with self._turn:
            return await asyncio.to_thread(run)
