"""Tables brought up to date when the store is opened.

While nothing is released there is one revision, written anew from the schema with
``python -m homeserver.storage.migrations``. After a release revisions are only added:
``python -m homeserver.storage.migrations "what changes"``.
"""

from importlib import import_module
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

_ADVISORY_LOCK: Final = 0x5041524C4559


class StoreTooNew(RuntimeError):
    """A newer version of the software has written this store."""


def head() -> str:
    """The newest revision this version of the software knows: files are numbered in their order."""
    return max(path.stem.partition("_")[0] for path in (Path(__file__).parent / "versions").glob("[0-9]*.py"))


def current(connection: Connection) -> str | None:
    """The revision of the store, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def is_current(connection: Connection) -> bool:
    """Whether the store has the newest revision."""
    return current(connection) == head()


def upgrade(connection: Connection) -> None:
    """Bring every table to the newest revision, within the caller's transaction. Raises `StoreTooNew`."""
    if connection.dialect.name == "postgresql":
        # Nodes that start together take turns.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_ADVISORY_LOCK,))
    found = current(connection)
    newest = head()
    if found == newest:
        return
    if found is not None and found > newest:
        raise StoreTooNew(f"the store has revision {found}, which this version does not know")
    # Imported when it is needed, once in the life of a store: Alembic is a tenth of the time of a start.
    import_module("homeserver.storage.migrations.revisions").upgrade(connection)
