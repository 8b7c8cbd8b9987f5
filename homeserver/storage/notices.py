"""SQL for notices that are shown at login, and who was sent which."""

from sqlalchemy import Connection, delete, select

from homeserver.domain.notices import Notice, NoticeKind
from homeserver.storage import accounts, dialect
from homeserver.storage.schema import notice as table
from homeserver.storage.schema import notice_seen as seen


def every(connection: Connection) -> list[Notice]:
    """All notices of all domains."""
    rows = connection.execute(select(table).order_by(table.c.domain, table.c.kind))
    return [Notice(NoticeKind(row.kind), row.domain, row.text, row.version, row.since) for row in rows]


def put(connection: Connection, made: Notice) -> None:
    """Keep a notice in place of the one of its kind and domain."""
    values = {"text": made.text, "version": made.version, "since": made.since}
    key = {"kind": made.kind.value, "domain": made.domain}
    statement = dialect.upsert(connection, table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def drop(connection: Connection, kind: NoticeKind, domain: str) -> bool:
    """Remove a notice; returns whether there was one."""
    mine = (table.c.kind == kind.value) & (table.c.domain == domain)
    return connection.execute(delete(table).where(mine)).rowcount > 0


def known_to(connection: Connection, account: int) -> tuple[float, dict[NoticeKind, int]]:
    """When an account was made (seconds since the epoch), and the versions that it was sent."""
    rows = connection.execute(select(seen.c.kind, seen.c.version).where(seen.c.account == account))
    return accounts.created(connection, account), {NoticeKind(row.kind): row.version for row in rows}


def note(connection: Connection, account: int, kind: NoticeKind, version: int) -> None:
    """The account was sent that version."""
    statement = dialect.upsert(connection, seen).values(account=account, kind=kind.value, version=version)
    connection.execute(statement.on_conflict_do_update(index_elements=["account", "kind"], set_={"version": version}))


def forget(connection: Connection, account: int) -> None:
    """Forget what an account was sent."""
    connection.execute(delete(seen).where(seen.c.account == account))
