"""SQL for announcements and how far each has come."""

from sqlalchemy import Connection, Row, delete, insert, select, update

from homeserver.domain.accounts import Role
from homeserver.domain.notices import Announcement
from homeserver.storage.schema import announcement as table


def add(connection: Connection, made: Announcement) -> int:
    """Keep a new one; its own ``id`` does not count. Returns its number."""
    values = {
        "author": made.author,
        "domain": made.domain or "",
        "role": "" if made.role is None else made.role.value,
        "text": made.text,
        "created": made.created,
        "last": made.last,
        "reached": made.reached,
        "told": made.told,
        "finished": made.finished,
    }
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def unfinished(connection: Connection) -> Announcement | None:
    """The oldest with something left to do, or None."""
    query = select(table).where(table.c.finished.is_(None)).order_by(table.c.id).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _announcement(row)


def advance(connection: Connection, id_: int, reached: int, told: int) -> None:
    """Note that all accounts up to ``reached`` are done with, ``told`` more of them having been sent it."""
    mine = (table.c.id == id_) & (table.c.reached < reached)
    connection.execute(update(table).where(mine).values(reached=reached, told=table.c.told + told))


def finish(connection: Connection, id_: int, at: float) -> None:
    """Note that nothing is left to do."""
    connection.execute(update(table).where(table.c.id == id_, table.c.finished.is_(None)).values(finished=at))


def find(connection: Connection, id_: int) -> Announcement | None:
    """One of them, or None."""
    row = connection.execute(select(table).where(table.c.id == id_)).one_or_none()
    return None if row is None else _announcement(row)


def listing(connection: Connection, limit: int) -> list[Announcement]:
    """The newest, newest first."""
    return [_announcement(row) for row in connection.execute(select(table).order_by(table.c.id.desc()).limit(limit))]


def purge_before(connection: Connection, at: float) -> None:
    """Delete those that were finished before a time."""
    connection.execute(delete(table).where(table.c.finished < at))


def _announcement(row: Row[tuple[object, ...]]) -> Announcement:
    return Announcement(
        row.id,
        row.author,
        row.domain or None,
        Role(row.role) if row.role else None,
        row.text,
        row.created,
        row.last,
        row.reached,
        row.told,
        row.finished,
    )
