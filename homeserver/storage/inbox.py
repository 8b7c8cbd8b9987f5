"""Conversations of an account, and up to where it has read them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, select, text

from homeserver.domain.messages import Conversation, Entry, PageRequest, Treatment
from homeserver.storage import dialect, mailboxes, places
from homeserver.storage.log_index import View
from homeserver.storage.places import Side
from homeserver.storage.schema import account, entry, log, read_position

MOST_UNREAD: Final = 999
"""Unread messages of one conversation are counted up to here."""
_LOOKED_BACK: Final = 20
_ARCHIVED_INSTANT: Final = log.c.treatment.bitwise_and(Treatment.INSTANT.value) != 0
_ARCHIVED: Final = log.c.treatment.bitwise_and(Treatment.ARCHIVE.value) != 0

_NEWEST: Final = text("""
WITH RECURSIVE met(peer) AS (
  SELECT MIN(peer) FROM entry WHERE owner = :owner
  UNION ALL
  SELECT (SELECT MIN(e.peer) FROM entry e WHERE e.owner = :owner AND e.peer > met.peer) FROM met WHERE met.peer IS NOT NULL
), newest AS (
  SELECT peer, (
    SELECT e.id FROM entry e JOIN log l ON l.id = e.id
    WHERE e.owner = :owner AND e.peer = met.peer AND e.id <= :through AND l.treatment & 1 <> 0
    ORDER BY e.id DESC LIMIT 1
  ) AS id FROM met WHERE met.peer IS NOT NULL
)
SELECT COALESCE(a.jid, d.jid, ''), n.id FROM newest n
LEFT JOIN account a ON a.id = n.peer LEFT JOIN address d ON d.id = -n.peer WHERE n.id IS NOT NULL
""")
"""Jumps from peer to peer along the index (owner, peer, id)."""


def conversations(connection: Connection, owner: int, before: int | None, limit: int, view: View) -> list[Conversation]:
    """The owner's conversations, newest first; ``before`` is the id of the last one of the page before.

    Costs two index seeks per peer of the owner, however long the conversations are, and a few more for each one shown.
    """
    newest: dict[str, int] = {}
    for peer, last in connection.execute(_NEWEST, {"owner": owner, "through": view.through}):
        newest[peer] = max(last, newest.get(peer, 0))
    for ids in places.chunks([id_ for id_, _ in view.tail]):
        query = mailboxes.rows_of(owner, ids).where(_ARCHIVED).with_only_columns(log.c.id, mailboxes.PEER)
        newest.update((peer, id_) for id_, peer in connection.execute(query))
    chosen = sorted(((last, peer) for peer, last in newest.items() if before is None or last < before), reverse=True)
    chosen = chosen[:limit]
    entries = {found.id: found for found in mailboxes.found_by_id(connection, owner, [last for last, _ in chosen], [])}
    read = positions(connection, owner)
    return [
        _described(connection, owner, view, peer, entries[last], read.get(peer, 0))
        for last, peer in chosen
        if last in entries
    ]


def positions(connection: Connection, owner: int) -> dict[str, int]:
    """Up to where the owner has read, by peer (bare JID)."""
    query = select(read_position.c.peer, read_position.c.id).where(read_position.c.account == owner)
    return {peer: id_ for peer, id_ in connection.execute(query)}  # noqa: C416  # rows are no pairs to mypy


def position(connection: Connection, owner: int, peer: str) -> int:
    """Up to where the owner has read what it has with a peer, 0 at first."""
    query = select(read_position.c.id).where(read_position.c.account == owner, read_position.c.peer == peer)
    return connection.execute(query).scalar_one_or_none() or 0


def advance(connection: Connection, owner: int, peer: str, id_: int) -> bool:
    """Note that the owner has read a conversation up to an id; false when it had before."""
    if id_ <= position(connection, owner, peer):
        return False
    statement = dialect.upsert(connection, read_position).values(account=owner, peer=peer, id=id_)
    changed = {"id": statement.excluded.id}
    connection.execute(statement.on_conflict_do_update(index_elements=["account", "peer"], set_=changed))
    return True


def displayed(connection: Connection, marks: Sequence[tuple[int, str, str, str]]) -> list[tuple[str, str, int]]:
    """Take markers: account and bare JID of who has read, bare JID of who wrote, the id that this one gave its message.

    Gives the positions that advanced: who has read, who wrote, up to which id.
    """
    moved: list[tuple[str, str, int]] = []
    for reader, bare, peer, stanza_id in marks:
        number = connection.execute(select(account.c.id).where(account.c.jid == peer)).scalar_one_or_none()
        above = position(connection, reader, peer)
        place = places.position_of(connection, Side(number, peer), Side(reader, bare), stanza_id, above)
        if place is not None and advance(connection, reader, peer, place):
            moved.append((bare, peer, place))
    return moved


def forget(connection: Connection, owner: int) -> None:
    """Remove the positions of an account."""
    connection.execute(read_position.delete().where(read_position.c.account == owner))


def _described(connection: Connection, owner: int, view: View, peer: str, last: Entry, read: int) -> Conversation:
    shown: Entry | None = last
    if not last.treatment & Treatment.INSTANT:
        request = PageRequest(limit=_LOOKED_BACK, peer=peer, backwards=True)
        near = mailboxes.page(connection, owner, request, view).entries
        shown = next((found for found in reversed(near) if found.treatment & Treatment.INSTANT), None)
    unread = 0 if last.id <= read else _unread(connection, owner, view, peer, read)
    return Conversation(peer, last, shown, unread, read)


def _unread(connection: Connection, owner: int, view: View, peer: str, read: int) -> int:
    """Received messages behind the read position and behind the last one that the owner sent itself."""
    total = 0
    for senders in (
        _senders_in_tail(connection, owner, view, peer, read),
        _senders(connection, owner, [entry.c.id > read, entry.c.id <= view.through], peer),
    ):
        for sender in senders:
            if sender == owner or total == MOST_UNREAD:
                return total
            total += 1
    return total


def _senders(connection: Connection, owner: int, bounds: Sequence[ColumnElement[bool]], peer: str) -> list[int | None]:
    query = (
        select(log.c.sender)
        .select_from(entry.join(log, log.c.id == entry.c.id))
        .where(entry.c.owner == owner, places.with_peer(connection, peer), *bounds, _ARCHIVED_INSTANT)
        .order_by(entry.c.id.desc())
        .limit(MOST_UNREAD + 1)
    )
    return list(connection.execute(query).scalars())


def _senders_in_tail(connection: Connection, owner: int, view: View, peer: str, read: int) -> list[int | None]:
    found: list[int | None] = []
    for ids in places.chunks(mailboxes.tail_ids(connection, view, peer, (read + 1, 2**62))):
        query = mailboxes.rows_of(owner, ids).where(_ARCHIVED_INSTANT).with_only_columns(log.c.sender)
        found += connection.execute(query).scalars()
    return found[::-1]
