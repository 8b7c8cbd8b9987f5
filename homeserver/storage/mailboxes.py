"""Mailboxes: every local account's view of the message log.

All functions take a connection first. Those that list entries also take a `log_index.View`, made on the loop before the
read, so that rows without entries yet are seen too.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    text,
    update,
)

from homeserver.domain.messages import Conversation, Direction, Entry, Kind, Page, PageRequest, Treatment
from homeserver.storage.log_index import View
from homeserver.storage.schema import account, address, entry, log, log_state, mailbox, metadata

_TAIL_CHUNK: Final = 200
_COLUMNS: Final = (log.c.id, log.c.at, log.c.sender, log.c.recipient, log.c.kind, log.c.stanza_id, log.c.payload)
_ARCHIVED: Final = log.c.treatment.bitwise_and(Treatment.ARCHIVE.value) != 0
_KEPT: Final = log.c.treatment.bitwise_and(Treatment.KEEP.value) != 0
_KINDS: Final = {kind.value: kind for kind in Kind}

Bounds = tuple[int, int]
"""Lowest and highest id, both inclusive."""


def page(connection: Connection, owner: int, request: PageRequest, view: View) -> Page:
    """A slice of the owner's archive, oldest first (XEP-0313 s4).

    An id is never below the time of its message, so times become bounds of ids and an exact check.
    """
    if request.ids is not None:
        return Page(_found(connection, owner, request.ids, [_ARCHIVED]), complete=True)
    wanted = request.limit + 1
    checks = [_ARCHIVED]
    low, high = 0, 2**62
    if request.after is not None:
        low = request.after + 1
    if request.before is not None:
        high = request.before - 1
    if request.start is not None:
        low = max(low, request.start)
        checks.append(log.c.at >= request.start)
    if request.end is not None:
        checks.append(log.c.at <= request.end)
    tail = _tail_ids(connection, view, request.peer, (low, high))
    if request.end is not None:
        high = min(high, request.end + connection.execute(select(log_state.c.lead)).scalar_one())
    bounds = (low, min(high, view.through))
    query = _LATEST if request.backwards else _OLDEST
    if len(checks) > 1:
        query = query.where(*checks[1:])
    if request.peer is not None:
        query = query.where(_with(connection, request.peer))
    found: list[Entry] = []
    if request.backwards:
        found = _from_tail(connection, owner, tail[::-1], checks, wanted)
        if len(found) < wanted:
            found += _indexed(connection, owner, bounds, query, wanted - len(found))
    else:
        found = _indexed(connection, owner, bounds, query, wanted)
        if len(found) < wanted:
            found += _from_tail(connection, owner, tail, checks, wanted - len(found))
    complete = len(found) < wanted
    found = found[: request.limit]
    return Page(found[::-1] if request.backwards else found, complete)


def behind(connection: Connection, owner: int, position: int, limit: int, view: View) -> Page:
    """Every entry of the owner above ``position``, archived or not, oldest first."""
    wanted = limit + 1
    found = _indexed(connection, owner, (position + 1, view.through), _ENTRIES, wanted)
    if len(found) < wanted:
        tail = _tail_ids(connection, view, None, (position + 1, 2**62))
        found += _from_tail(connection, owner, tail, [], wanted - len(found))
    return Page(found[:limit], complete=len(found) < wanted)


def pending(
    connection: Connection, owner: int, after: int, limit: int, view: View, unarchived: bool = False
) -> list[Entry]:
    """Entries that wait for delivery, oldest first: received with `Treatment.KEEP`, above ``after`` and settled.

    With ``unarchived`` only those that the archive does not show.
    """
    low = max(after, settled(connection, owner), view.settling) + 1
    return _waiting(connection, owner, low, limit, view, unarchived)


def newest_id(connection: Connection, owner: int, view: View) -> int:
    """The highest id of the owner's entries, archived or waiting; 0 without any."""
    if view.tail:
        return view.tail[-1][0]
    return connection.execute(_NEWEST_ID, {"owner": owner, "high": view.through}).scalar_one() or 0


def pending_or_newest(
    connection: Connection, owner: int, after: int, limit: int, view: View
) -> tuple[list[Entry], int]:
    """`pending`; when nothing waits above the settled position also the id up to which that is certain, else 0."""
    position = max(settled(connection, owner), view.settling)
    found = _waiting(connection, owner, max(after, position) + 1, limit, view)
    if found or after > position:
        return found, 0
    return found, newest_id(connection, owner, view)


def conversations(connection: Connection, owner: int, before: int | None, limit: int, view: View) -> list[Conversation]:
    """The newest entry with each peer, newest first; ``before`` is the id of the last one of the page before.

    Costs two index seeks per peer of the owner, however long the conversations are.
    """
    newest: dict[str, int] = {}
    for peer, last in connection.execute(_NEWEST, {"owner": owner, "through": view.through}):
        newest[peer] = max(last, newest.get(peer, 0))
    for ids in _chunks([id_ for id_, _ in view.tail]):
        query = _rows(owner, ids).where(_ARCHIVED).with_only_columns(log.c.id, _PEER)
        newest.update((peer, id_) for id_, peer in connection.execute(query))
    chosen = sorted(((last, peer) for peer, last in newest.items() if before is None or last < before), reverse=True)
    entries = {found.id: found for found in _found(connection, owner, [last for last, _ in chosen[:limit]], [])}
    return [Conversation(peer, entries[last]) for last, peer in chosen[:limit] if last in entries]


def entry_by_id(connection: Connection, owner: int, id_: int) -> Entry | None:
    """One entry of the owner's archive."""
    found = _found(connection, owner, [id_], [_ARCHIVED])
    return found[0] if found else None


def first_and_last(connection: Connection, owner: int, view: View) -> tuple[Entry | None, Entry | None]:
    """The oldest and the newest entry of the owner's archive (XEP-0313 s4.1 metadata)."""
    first = page(connection, owner, PageRequest(limit=1), view).entries
    if not first:
        return None, None
    last = page(connection, owner, PageRequest(limit=1, backwards=True), view).entries
    return first[0], last[0] if last else None


def count(connection: Connection, owner: int, peer: str | None, view: View) -> int:
    """How many entries the owner has, with one peer or with all (XEP-0059 s2.6)."""
    query = (
        select(func.count())
        .select_from(entry.join(log, log.c.id == entry.c.id))
        .where(entry.c.owner == owner, entry.c.id <= view.through, _ARCHIVED)
    )
    if peer is not None:
        query = query.where(_with(connection, peer))
    total: int = connection.execute(query).scalar_one()
    for ids in _chunks(_tail_ids(connection, view, peer, (0, 2**62))):
        total += connection.execute(
            select(func.count()).select_from(log).where(log.c.id.in_(_expanding(ids)), _ARCHIVED)
        ).scalar_one()
    return total


def has_written(connection: Connection, owner: int, peer: str, view: View) -> bool:
    """Whether the owner's archive holds a message that it sent to ``peer`` (bare JID)."""
    checks = [_ARCHIVED, log.c.sender == owner]
    query = _LATEST.where(checks[1], _with(connection, peer))
    if _indexed(connection, owner, (0, view.through), query, 1):
        return True
    return bool(_from_tail(connection, owner, _tail_ids(connection, view, peer, (0, 2**62)), checks, 1))


def settled(connection: Connection, owner: int) -> int:
    """The id up to which nothing waits for the owner, 0 at first."""
    found = connection.execute(_SETTLED, {"owner": owner}).scalar_one_or_none()
    return found if found is not None else 0


def recent_origins(connection: Connection, since: int, limit: int) -> list[tuple[int, str, str, str, bytes]]:
    """Messages with an origin-id and an id above ``since``: (id, sender's bare JID, peer's, origin-id, payload).

    Only those of local senders, the newest ``limit``, oldest first; for the recognition of resends after a restart.
    """
    sender, recipient = account.alias("sender"), account.alias("recipient")
    query = (
        select(log.c.id, sender.c.jid, func.coalesce(recipient.c.jid, log.c.remote, ""), log.c.origin_id, log.c.payload)
        .join(sender, sender.c.id == log.c.sender)
        .outerjoin(recipient, recipient.c.id == log.c.recipient)
        .where(log.c.id > since, log.c.origin_id.is_not(None))
        .order_by(log.c.id.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()[::-1]
    return [(id_, mine, peer, origin, payload) for id_, mine, peer, origin, payload in rows]


def purge_before(connection: Connection, before: int, limit: int = 1000, keep_waiting: bool = True) -> int:
    """Remove up to ``limit`` of the oldest messages with an id below ``before``; return how many.

    With ``keep_waiting`` those still waiting for a recipient stay, and those an outbox refers to always do. Call again
    until it returns 0.
    """
    checks: list[ColumnElement[bool]] = [log.c.id < before, ~_queued()]
    if connection.dialect.name == "sqlite":
        checks.append(log.c.id <= select(log_state.c.indexed_through).scalar_subquery())
    if keep_waiting:
        reached = select(mailbox.c.settled).where(mailbox.c.account == log.c.recipient).scalar_subquery()
        checks.append(
            or_(log.c.recipient.is_(None), log.c.treatment.bitwise_and(2) == 0, log.c.id <= func.coalesce(reached, 0))
        )
    query = select(log.c.id, log.c.sender, log.c.recipient).where(*checks).order_by(log.c.id).limit(limit)
    rows = connection.execute(query).all()
    if not rows:
        return 0
    pairs = sorted({(owner, id_) for id_, *owners in rows for owner in owners if owner is not None})
    connection.execute(
        delete(entry).where(entry.c.owner == bindparam("whose"), entry.c.id == bindparam("which")),
        [{"whose": owner, "which": id_} for owner, id_ in pairs],
    )
    for ids in _chunks([id_ for id_, *_ in rows]):
        connection.execute(delete(log).where(log.c.id.in_(_expanding(ids))))
    return len(rows)


def purge_owner(connection: Connection, owner: int) -> None:
    """Remove everything the owner holds; messages stay for the other side that holds them too."""
    name = select(account.c.jid).where(account.c.id == owner).scalar_subquery()
    alone = or_(
        and_(log.c.sender == owner, log.c.recipient.is_(None)),
        and_(log.c.recipient == owner, log.c.sender.is_(None)),
        and_(log.c.recipient == owner, log.c.sender == owner),
    )
    connection.execute(delete(log).where(alone, ~_queued()))
    connection.execute(update(log).where(log.c.sender == owner).values(sender=None, remote=name))
    connection.execute(update(log).where(log.c.recipient == owner).values(recipient=None, remote=name))
    connection.execute(delete(entry).where(entry.c.owner == owner))
    connection.execute(delete(mailbox).where(mailbox.c.account == owner))


def _queued() -> ColumnElement[bool]:
    """Whether a message of the log is still needed by the outbox, whose column says that it refers to the log."""
    outbox = metadata.tables.get("outbox")
    columns = [column for column in outbox.columns if column.info.get("log_id")] if outbox is not None else []
    return or_(false(), *(exists().where(column == log.c.id).correlate(log) for column in columns))


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

_local = account.alias("local")
_PEER: Final = func.coalesce(_local.c.jid, log.c.remote, "").label("peer")


def _rows(owner: int, ids: Sequence[int]) -> Select[Any]:
    """Rows of the log with these ids that the owner holds, oldest first, whether they have entries or not."""
    other = case((log.c.sender == owner, log.c.recipient), else_=log.c.sender)
    return (
        select(*_COLUMNS, _PEER)
        .select_from(log.outerjoin(_local, _local.c.id == other))
        .where(log.c.id.in_(_expanding(ids)), or_(log.c.sender == owner, log.c.recipient == owner))
        .order_by(log.c.id)
    )


def _listing(*checks: ColumnElement[bool], backwards: bool = False) -> Select[Any]:
    """Entries of ``owner`` from ``low`` to ``high``, at most ``limit``. SQLAlchemy spends more on a statement made anew than
    SQLite on its rows, so those of every login are made once."""
    return (
        select(*_COLUMNS, func.coalesce(_local.c.jid, address.c.jid, "").label("peer"))
        .select_from(
            entry.join(log, log.c.id == entry.c.id)
            .outerjoin(_local, _local.c.id == entry.c.peer)
            .outerjoin(address, address.c.id == -entry.c.peer)
        )
        .where(
            entry.c.owner == bindparam("owner"),
            entry.c.id >= bindparam("low"),
            entry.c.id <= bindparam("high"),
            *checks,
        )
        .order_by(entry.c.id.desc() if backwards else entry.c.id)
        .limit(bindparam("limit"))
    )


_TO_OWNER: Final = log.c.recipient == bindparam("owner")
_ENTRIES: Final = _listing()
_OLDEST: Final = _listing(_ARCHIVED)
_LATEST: Final = _listing(_ARCHIVED, backwards=True)
_WAITING: Final = _listing(_KEPT, _TO_OWNER)
_WAITING_UNARCHIVED: Final = _listing(_KEPT, _TO_OWNER, ~_ARCHIVED)
_SETTLED: Final = select(mailbox.c.settled).where(mailbox.c.account == bindparam("owner"))
_NEWEST_ID: Final = select(func.max(entry.c.id)).where(
    entry.c.owner == bindparam("owner"), entry.c.id <= bindparam("high")
)


def _waiting(
    connection: Connection, owner: int, low: int, limit: int, view: View, unarchived: bool = False
) -> list[Entry]:
    """What waits from ``low`` on."""
    query = _WAITING_UNARCHIVED if unarchived else _WAITING
    found = _indexed(connection, owner, (low, view.through), query, limit)
    if len(found) < limit:
        tail = _tail_ids(connection, view, None, (low, 2**62))
        if tail:
            checks = [_KEPT, log.c.recipient == owner, *([~_ARCHIVED] if unarchived else ())]
            found += _from_tail(connection, owner, tail, checks, limit - len(found))
    return found


def _indexed(connection: Connection, owner: int, bounds: Bounds, query: Select[Any], limit: int) -> list[Entry]:
    """Run a `_listing`."""
    values = {"owner": owner, "low": bounds[0], "high": bounds[1], "limit": limit}
    return [_entry(owner, row) for row in connection.execute(query, values)]


def _from_tail(
    connection: Connection, owner: int, ids: Sequence[int], checks: Sequence[ColumnElement[bool]], limit: int
) -> list[Entry]:
    """The first ``limit`` of these that pass the checks, in the order given (up or down)."""
    found: list[Entry] = []
    for chunk in _chunks(ids):
        part = _found(connection, owner, chunk, checks)
        found += part[::-1] if chunk[0] > chunk[-1] else part
        if len(found) >= limit:
            break
    return found[:limit]


def _found(
    connection: Connection, owner: int, ids: Sequence[int], checks: Sequence[ColumnElement[bool]]
) -> list[Entry]:
    found: list[Entry] = []
    for chunk in _chunks(ids):
        found += [_entry(owner, row) for row in connection.execute(_rows(owner, chunk).where(*checks))]
    return found


def _tail_ids(connection: Connection, view: View, peer: str | None, bounds: Bounds) -> list[int]:
    if not view.tail:
        return []
    low, high = bounds
    if peer is None:
        return [id_ for id_, _ in view.tail if low <= id_ <= high]
    known = connection.execute(select(account.c.id).where(account.c.jid == peer)).scalar_one_or_none()
    return [id_ for id_, other in view.tail if low <= id_ <= high and other in (peer, known or -1)]


def _with(connection: Connection, peer: str) -> ColumnElement[bool]:
    """The condition that an entry's peer is ``peer``: an account, or an address, or both if it was one before."""
    numbers = [*connection.execute(select(account.c.id).where(account.c.jid == peer)).scalars()]
    numbers += [-found for found in connection.execute(select(address.c.id).where(address.c.jid == peer)).scalars()]
    return entry.c.peer == numbers[0] if len(numbers) == 1 else entry.c.peer.in_(_expanding(numbers))


def _expanding(ids: Sequence[int]) -> Any:
    return bindparam(None, list(ids), expanding=True, unique=True)


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + _TAIL_CHUNK] for start in range(0, len(ids), _TAIL_CHUNK))


def _entry(owner: int, row: Any) -> Entry:
    id_, at, sender, recipient, kind, stanza_id, payload, peer = row
    if sender != owner:
        direction = Direction.INCOMING
    else:
        direction = Direction.TO_SELF if recipient == owner else Direction.OUTGOING
    return Entry(id_, at, peer, direction, _KINDS[kind], stanza_id, payload)
