"""SQL for the time an account was last available."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, delete, select

from homeserver.storage import dialect
from homeserver.storage.schema import last_activity as table


def note(conn: Connection, account: int, at: float, status: str) -> None:
    """The account's last session became unavailable at ``at`` (seconds since the epoch), saying ``status``."""
    conn.execute(_noting(dialect.inserter(conn)), {"account": account, "at": at, "status": status})


@lru_cache(maxsize=2)
def _noting(insert: Callable[[Table], Any]) -> Any:
    """Made once for each database: every logout runs it."""
    made = insert(table)
    return made.on_conflict_do_update(
        index_elements=[table.c.account], set_={"at": made.excluded.at, "status": made.excluded.status}
    )


def last(conn: Connection, account: int) -> tuple[float, str] | None:
    """When the account was last available and its last words, or None if it never was."""
    row = conn.execute(select(table.c.at, table.c.status).where(table.c.account == account)).first()
    return (row.at, row.status) if row else None


def clear(conn: Connection, account: int) -> None:
    """Forget it."""
    conn.execute(delete(table).where(table.c.account == account))
