"""SQL for uploaded files. Their content is on the disk, see `blobs.py`."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, delete, func, insert, select

from homeserver.domain.files import File, Usage
from homeserver.storage.schema import file


def find(connection: Connection, id_: str) -> File | None:
    """The file with that id, or None."""
    row = connection.execute(select(file).where(file.c.id == id_)).one_or_none()
    return None if row is None else _file(row)


def add(connection: Connection, made: File) -> None:
    """Keep a file whose content is on the disk."""
    connection.execute(
        insert(file).values(
            id=made.id,
            account=made.account,
            name=made.name,
            type=made.type,
            size=made.size,
            digest=made.digest,
            created=made.created,
            expires=made.expires,
        )
    )


def usage(connection: Connection, account: int, since: float) -> Usage:
    """What an account has stored, and how much of it since a moment."""
    mine = file.c.account == account
    total, count, frees = connection.execute(
        select(func.coalesce(func.sum(file.c.size), 0), func.count(), func.min(file.c.expires)).where(mine)
    ).one()
    recent, oldest = connection.execute(
        select(func.coalesce(func.sum(file.c.size), 0), func.min(file.c.created)).where(mine, file.c.created > since)
    ).one()
    return Usage(int(total), count, int(recent), oldest, frees)


def expired(connection: Connection, now: float, limit: int) -> list[str]:
    """Ids of files whose time is over."""
    return list(connection.execute(select(file.c.id).where(file.c.expires <= now).limit(limit)).scalars())


def owned(connection: Connection, account: int, limit: int) -> list[str]:
    """Ids of files of an account."""
    return list(connection.execute(select(file.c.id).where(file.c.account == account).limit(limit)).scalars())


def owners(connection: Connection, after: int, limit: int) -> list[int]:
    """Accounts that have files, by number, from behind ``after``."""
    wanted = select(file.c.account).where(file.c.account > after).distinct().order_by(file.c.account).limit(limit)
    return list(connection.execute(wanted).scalars())


def known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these ids are files."""
    return set(connection.execute(select(file.c.id).where(file.c.id.in_(ids))).scalars())


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Forget files."""
    connection.execute(delete(file).where(file.c.id.in_(ids)))


def _file(row: Row[tuple[object, ...]]) -> File:
    return File(row.id, row.account, row.name, row.type, row.size, bytes(row.digest), float(row.created), row.expires)
