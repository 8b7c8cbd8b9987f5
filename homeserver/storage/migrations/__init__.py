"""Tables brought up to date when the store is opened.

While nothing is released there is one revision, written anew from the schema with
``python -m homeserver.storage.migrations``. After a release revisions are only added:
``python -m homeserver.storage.migrations "what changes"``.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

_ADVISORY_LOCK: Final = 0x5041524C4559


class StoreTooNew(RuntimeError):
    """A newer version of the software has written this store."""


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's settings; ``connection`` is the one to migrate through."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head() -> str | None:
    """The newest revision this version of the software knows."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


def current(connection: Connection) -> str | None:
    """The revision of the store, None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


async def is_current(engine: AsyncEngine) -> bool:
    """Whether the store has the newest revision."""
    async with engine.connect() as connection:
        return await connection.run_sync(current) == head()


async def upgrade(engine: AsyncEngine) -> None:
    """Bring every table to the newest revision, in one transaction. Raises `StoreTooNew`."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Nodes that start together take turns.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_ADVISORY_LOCK,))
    found = current(connection)
    if found is not None and found == head():
        return
    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StoreTooNew(f"the store has revision {found}, which this version does not know") from error
