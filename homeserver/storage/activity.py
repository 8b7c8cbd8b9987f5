"""SQL for the time an account was last available."""

from sqlalchemy import Connection, Insert, delete, select

from homeserver.storage import dialect
from homeserver.storage.schema import last_activity as table

_NOTE: dict[str, Insert] = {}
"""By database: every logout writes this, so it is made once."""


def note(conn: Connection, account: int, at: float, status: str) -> None:
    """The account's last session became unavailable at ``at`` (seconds since the epoch), saying ``status``."""
    name = conn.dialect.name
    if name not in _NOTE:
        made = dialect.upsert(conn, table)
        changed = {"at": made.excluded.at, "status": made.excluded.status}
        _NOTE[name] = made.on_conflict_do_update(index_elements=[table.c.account], set_=changed)
    conn.execute(_NOTE[name], {"account": account, "at": at, "status": status})


def last(conn: Connection, account: int) -> tuple[float, str] | None:
    """When the account was last available and its last words, or None if it never was."""
    row = conn.execute(select(table.c.at, table.c.status).where(table.c.account == account)).first()
    return (row.at, row.status) if row else None


def clear(conn: Connection, account: int) -> None:
    """Forget it."""
    conn.execute(delete(table).where(table.c.account == account))
