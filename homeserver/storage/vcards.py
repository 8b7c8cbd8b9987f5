"""SQL for vCards (XEP-0054). What is kept is the vcard-temp shape, without a picture."""

from sqlalchemy import Connection, delete, select

from homeserver.storage import dialect
from homeserver.storage.schema import vcard as table


def put(conn: Connection, account: int, payload: bytes) -> None:
    """Replace the vCard of an account."""
    conn.execute(
        dialect.upsert(conn, table)
        .values(account=account, payload=payload)
        .on_conflict_do_update(index_elements=["account"], set_={"payload": payload})
    )


def of(conn: Connection, account: int) -> bytes | None:
    """The vCard of an account."""
    return conn.execute(select(table.c.payload).where(table.c.account == account)).scalar_one_or_none()


def clear(conn: Connection, account: int) -> None:
    """Forget it."""
    conn.execute(delete(table).where(table.c.account == account))
