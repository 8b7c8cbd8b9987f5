"""Where in the log something is: entries with a peer, and a message by the id that its sender gave it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select

from homeserver.storage import dialect
from homeserver.storage.schema import account, address, entry, log, log_state

SEARCHED_BACK: Final = 5000
"""So many of the newest messages of a conversation are looked at for one that is named by its sender's id."""
_CHUNK: Final = 200


class Side(NamedTuple):
    """One side of a conversation: a local account by id, or None for one that is not, and its bare JID."""

    account: int | None
    jid: str


def position_of(connection: Connection, author: Side, other: Side, stanza_id: str, above: int = 0) -> int | None:
    """The newest message that ``author`` sent to ``other`` under an id of its own, by its place; None if there is none.

    Looked for above the id ``above`` among the newest `SEARCHED_BACK` messages of the conversation.
    """
    named = [
        _is(log.c.sender, author),
        _is(log.c.recipient, other),
        or_(log.c.stanza_id == stanza_id, log.c.origin_id == stanza_id),
    ]
    places: list[int | None] = []
    if dialect.is_sqlite(connection):
        unfilled = log.c.id > func.max(above, select(log_state.c.indexed_through).scalar_subquery())
        places.append(connection.execute(select(func.max(log.c.id)).where(unfilled, *named)).scalar_one())
    for side, peer in ((author, other.jid), (other, author.jid)):
        if side.account is not None and not any(places):
            newest = (
                select(entry.c.id)
                .where(entry.c.owner == side.account, entry.c.id > above, with_peer(connection, peer))
                .order_by(entry.c.id.desc())
                .limit(SEARCHED_BACK)
                .subquery()
            )
            query = select(log.c.id).join(newest, newest.c.id == log.c.id).where(*named).order_by(log.c.id.desc())
            places.append(connection.execute(query.limit(1)).scalar_one_or_none())
    return max(filter(None, places), default=None)


def _is(column: ColumnElement[int], side: Side) -> ColumnElement[bool]:
    """Whether a message is from or to a side: as an account here, or by its address (a hidden message has that too)."""
    by_address = and_(column.is_(None), log.c.remote == side.jid)
    return by_address if side.account is None else or_(column == side.account, by_address)


def with_peer(connection: Connection, peer: str) -> ColumnElement[bool]:
    """The condition that an entry's peer is ``peer``: an account, or an address, or both if it was one before."""
    numbers = [*connection.execute(select(account.c.id).where(account.c.jid == peer)).scalars()]
    numbers += [-found for found in connection.execute(select(address.c.id).where(address.c.jid == peer)).scalars()]
    return entry.c.peer == numbers[0] if len(numbers) == 1 else entry.c.peer.in_(expanding(numbers))


def expanding(ids: Sequence[int]) -> Any:
    return bindparam(None, list(ids), expanding=True, unique=True)


def chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
