"""SQL for the times an account was last available and last logged in."""

from collections.abc import Sequence

from sqlalchemy import Connection, Insert, delete, select

from homeserver.storage import dialect
from homeserver.storage.schema import last_activity as table
from homeserver.storage.schema import last_login

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


def note_login(conn: Connection, account: int, at: float) -> None:
    """A session of the account began at ``at`` (seconds since the epoch)."""
    made = dialect.upsert(conn, last_login).values(account=account, at=at)
    conn.execute(made.on_conflict_do_update(index_elements=[last_login.c.account], set_={"at": at}))


def logins(conn: Connection, accounts: Sequence[int]) -> dict[int, float]:
    """When each of the accounts last logged in; those that never did are left out."""
    rows = conn.execute(select(last_login).where(last_login.c.account.in_(accounts)))
    return {row.account: row.at for row in rows}


def clear_login(conn: Connection, account: int) -> None:
    """Forget when an account logged in."""
    conn.execute(delete(last_login).where(last_login.c.account == account))
