"""Streams that may be resumed (XEP-0198 s5), kept so that a resumption works after the server was killed.

Counters move through `GroupCommit.counter` and `GroupCommit.position`; what stands here is the slow part.
"""

from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from homeserver.storage.schema import stream


@dataclass(frozen=True, slots=True)
class ResumableStream:
    """One row. ``state`` is the owner's JSON; ``updated`` and ``expires`` are seconds since the epoch."""

    id: str
    account: int
    resource: str
    received: int
    sent: int
    position: int
    state: bytes
    updated: float
    expires: float
    marked_sent: int = 0
    marked_position: int = 0
    client: str | None = None


# Every login and logout writes these, so they are made once.
_ADD: Final = insert(stream)
_KEEP: Final = update(stream).where(stream.c.id == bindparam("known"))
_REMOVE: Final = delete(stream).where(stream.c.id == bindparam("known"))


def add(connection: Connection, found: ResumableStream) -> None:
    """Insert a stream when resumption is enabled. Raises sqlalchemy's IntegrityError if the id exists."""
    connection.execute(_ADD, asdict(found))


def find(connection: Connection, id_: str, now: float) -> ResumableStream | None:
    """The stream with this id, unless it has expired."""
    row = connection.execute(select(stream).where(stream.c.id == id_, stream.c.expires > now)).first()
    return ResumableStream(**row._mapping) if row is not None else None


def of_account(connection: Connection, account: int, now: float) -> list[ResumableStream]:
    """The account's streams that have not expired, oldest first."""
    query = select(stream).where(stream.c.account == account, stream.c.expires > now).order_by(stream.c.updated)
    return [ResumableStream(**row._mapping) for row in connection.execute(query)]


def keep(connection: Connection, id_: str, state: bytes, updated: float, expires: float) -> bool:
    """Note a new state and term; false if the stream is gone."""
    values = {"known": id_, "state": state, "updated": updated, "expires": expires}
    return connection.execute(_KEEP, values).rowcount > 0


def remove(connection: Connection, id_: str) -> bool:
    """Forget a stream that ended or was resumed elsewhere; false if there was none."""
    return connection.execute(_REMOVE, {"known": id_}).rowcount > 0


def remove_of(connection: Connection, account: int, client: str | None = None) -> None:
    """Forget the streams of an account, or those of one of its clients."""
    query = delete(stream).where(stream.c.account == account)
    connection.execute(query if client is None else query.where(stream.c.client == client))


def expire(connection: Connection, now: float, limit: int = 1000) -> list[ResumableStream]:
    """Remove up to ``limit`` streams whose time is over and return them, oldest first."""
    query = select(stream).where(stream.c.expires <= now).order_by(stream.c.expires).limit(limit)
    found = [ResumableStream(**row._mapping) for row in connection.execute(query)]
    for expired in found:
        connection.execute(delete(stream).where(stream.c.id == expired.id))
    return found
