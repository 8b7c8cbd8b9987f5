"""SQL for push registrations (XEP-0357)."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from homeserver.domain.push import Options, Registration
from homeserver.protocol.jid import JID
from homeserver.storage import dialect
from homeserver.storage.schema import push as table


def put(conn: Connection, made: Registration, now: float, most: int) -> None:
    """Add a registration, or renew the one with the same service and node (XEP-0357 s5).

    An account keeps at most ``most``; those enabled longest ago make room.
    """
    values = {
        "options": msgspec.json.encode(made.options).decode(),
        "device": made.device,
        "client": made.client,
        "enabled": now,
        "failures": made.failures,
    }
    key = {"account": made.account, "service": str(made.service), "node": made.node}
    conn.execute(
        dialect.upsert(conn, table).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values)
    )
    mine = select(table.c.service, table.c.node).where(table.c.account == made.account)
    for service, node in conn.execute(mine.order_by(table.c.enabled.desc(), table.c.node).offset(most)).all():
        drop(conn, made.account, service, node)


def of(conn: Connection, account: int) -> list[Registration]:
    """The registrations of an account, the oldest first."""
    query = select(table).where(table.c.account == account).order_by(table.c.enabled, table.c.service, table.c.node)
    return [_registration(row) for row in conn.execute(query)]


def accounts(conn: Connection) -> list[int]:
    """Accounts that have any."""
    return list(conn.execute(select(table.c.account).distinct()).scalars())


def drop(conn: Connection, account: int, service: str, node: str | None) -> bool:
    """Remove one registration, without ``node`` all of a service; returns whether the account has any left."""
    wanted = (table.c.account == account) & (table.c.service == service)
    if node is not None:
        wanted &= table.c.node == node
    conn.execute(delete(table).where(wanted))
    return _has_any(conn, account)


def drop_devices(conn: Connection, devices: Sequence[str]) -> list[int]:
    """Remove what these devices enabled; returns the accounts that have none left."""
    mine = table.c.device.in_(devices)
    concerned = list(conn.execute(select(table.c.account).where(mine).distinct()).scalars())
    conn.execute(delete(table).where(mine))
    return [account for account in concerned if not _has_any(conn, account)]


def drop_client(conn: Connection, account: int, client: str) -> bool:
    """Remove what an XMPP client of an account enabled; returns whether the account has any left."""
    conn.execute(delete(table).where(table.c.account == account, table.c.client == client))
    return _has_any(conn, account)


def clear(conn: Connection, account: int) -> None:
    """Remove all of an account."""
    conn.execute(delete(table).where(table.c.account == account))


def note_failures(conn: Connection, found: Registration, failures: int) -> None:
    """Keep how many notifications in a row failed."""
    conn.execute(
        update(table)
        .where(table.c.account == found.account, table.c.service == str(found.service), table.c.node == found.node)
        .values(failures=failures)
    )


def _has_any(conn: Connection, account: int) -> bool:
    return conn.execute(select(table.c.account).where(table.c.account == account).limit(1)).first() is not None


def _registration(row: Row[Any]) -> Registration:
    return Registration(
        row.account,
        JID.parse(row.service),
        row.node,
        msgspec.json.decode(row.options, type=Options),
        row.device,
        row.client,
        row.failures,
    )
