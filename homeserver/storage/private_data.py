"""SQL for what accounts keep for themselves: private XML (XEP-0049) and the settings of JSON clients."""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, func, select

from homeserver.storage import dialect
from homeserver.storage.schema import private_data as table


class Full(Exception):
    """There is no room for it; nothing was stored."""


def put(conn: Connection, account: int, entries: Mapping[str, bytes], most: int | None) -> None:
    """Replace entries by name; an empty one is removed. ``most`` bytes are all entries of the account, None is no bound.

    Raises `Full`.
    """
    for name, payload in entries.items():
        if not payload:
            conn.execute(delete(table).where(table.c.account == account, table.c.name == name))
            continue
        conn.execute(
            dialect.upsert(conn, table)
            .values(account=account, name=name, payload=payload)
            .on_conflict_do_update(index_elements=["account", "name"], set_={"payload": payload})
        )
    if most is None:
        return
    size = func.length(table.c.payload) + func.length(table.c.name)
    if (conn.execute(select(func.sum(size)).where(table.c.account == account)).scalar() or 0) > most:
        raise Full


def of(conn: Connection, account: int, name: str) -> bytes | None:
    """One entry."""
    query = select(table.c.payload).where(table.c.account == account, table.c.name == name)
    return conn.execute(query).scalar_one_or_none()


def clear(conn: Connection, account: int) -> None:
    """Forget all entries of an account."""
    conn.execute(delete(table).where(table.c.account == account))
