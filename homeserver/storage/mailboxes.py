"""Mailboxes: every local account's view of the message log.

All functions take a connection first. Those that list entries also take a `log_index.View`, made on the loop before the
read, so that rows without entries yet are seen too.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)

from homeserver.domain.messages import Direction, Entry, Kind, Page, PageRequest, Treatment
from homeserver.storage import search
from homeserver.storage.log_index import View
from homeserver.storage.places import Side, chunks, expanding, position_of, with_peer
from homeserver.storage.schema import account, address, entry, log, log_state, mailbox

_COLUMNS: Final = (
    log.c.id,
    log.c.at,
    log.c.sender,
    log.c.recipient,
    log.c.kind,
    log.c.stanza_id,
    log.c.payload,
    log.c.treatment,
)
_ARCHIVED: Final = log.c.treatment.bitwise_and(Treatment.ARCHIVE.value) != 0
_KEPT: Final = log.c.treatment.bitwise_and(Treatment.KEEP.value) != 0
_KINDS: Final = {kind.value: kind for kind in Kind}

MOST_COUNTED: Final = 10_000
Bounds = tuple[int, int]
"""Lowest and highest id, both inclusive."""


def page(connection: Connection, owner: int, request: PageRequest, view: View) -> Page:
    """A slice of the owner's archive, oldest first (XEP-0313 s4)."""
    if request.ids is not None:
        return Page(found_by_id(connection, owner, request.ids, [_ARCHIVED]), complete=True)
    wanted = request.limit + 1
    part = _narrowed(connection, owner, request, view)
    found: list[Entry] = []
    if request.backwards:
        found = _from_tail(connection, owner, part.tail[::-1], part.tail_checks, wanted)
        if len(found) < wanted:
            left = wanted - len(found)
            found += _indexed(connection, owner, part.bounds, part.checks, left, peer=request.peer, backwards=True)
    else:
        found = _indexed(connection, owner, part.bounds, part.checks, wanted, peer=request.peer, backwards=False)
        if len(found) < wanted:
            found += _from_tail(connection, owner, part.tail, part.tail_checks, wanted - len(found))
    complete = len(found) < wanted
    found = found[: request.limit]
    return Page(found[::-1] if request.backwards else found, complete)


class _Part(NamedTuple):
    """Where a slice is looked for: bounds and checks of the entries, ids and checks of the tail."""

    bounds: Bounds
    checks: list[ColumnElement[bool]]
    tail: list[int]
    tail_checks: list[ColumnElement[bool]]


def _narrowed(connection: Connection, owner: int, request: PageRequest, view: View) -> _Part:
    """An id is never below the time of its message, so times become bounds of ids and an exact check."""
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
    tail = tail_ids(connection, view, request.peer, (low, high))
    if request.end is not None:
        high = min(high, request.end + connection.execute(select(log_state.c.lead)).scalar_one())
    tail_checks = checks
    if request.words is not None:
        tail_checks = [*checks, search.holds(connection, log.c.id, owner, request.words)]
        checks = [*checks, search.holds(connection, entry.c.id, owner, request.words)]
    return _Part((low, min(high, view.through)), checks, tail, tail_checks)


def behind(connection: Connection, owner: int, position: int, limit: int, view: View) -> Page:
    """Every entry of the owner above ``position``, archived or not, oldest first."""
    wanted = limit + 1
    found = _indexed(connection, owner, (position + 1, view.through), [], wanted, peer=None, backwards=False)
    if len(found) < wanted:
        tail = tail_ids(connection, view, None, (position + 1, 2**62))
        found += _from_tail(connection, owner, tail, [], wanted - len(found))
    return Page(found[:limit], complete=len(found) < wanted)


def pending(
    connection: Connection, owner: int, after: int, limit: int, view: View, unarchived: bool = False
) -> list[Entry]:
    """Entries that wait for delivery, oldest first: received with `Treatment.KEEP`, above ``after`` and settled.

    With ``unarchived`` only those that the archive does not show.
    """
    low = max(after, settled(connection, owner), view.settling) + 1
    return _pending(connection, owner, low, limit, view, unarchived)


def _pending(connection: Connection, owner: int, low: int, limit: int, view: View, unarchived: bool) -> list[Entry]:
    checks = [_KEPT, log.c.recipient == owner]
    if unarchived:
        checks.append(~_ARCHIVED)
        found = _indexed(connection, owner, (low, view.through), checks, limit, peer=None, backwards=False)
    else:
        bounds = {"holder": owner, "low": low, "through": view.through, "most": limit}
        found = [_entry(owner, row) for row in connection.execute(_PENDING, bounds)]
    if len(found) < limit:
        tail = tail_ids(connection, view, None, (low, 2**62))
        found += _from_tail(connection, owner, tail, checks, limit - len(found))
    return found


def newest_id(connection: Connection, owner: int, view: View) -> int:
    """The highest id of the owner's entries, archived or waiting; 0 without any."""
    if view.tail:
        return view.tail[-1][0]
    return connection.execute(_LAST, {"holder": owner, "through": view.through}).scalar_one() or 0


def pending_or_newest(
    connection: Connection, owner: int, after: int, limit: int, view: View
) -> tuple[list[Entry], int]:
    """`pending`; when nothing waits above the settled position also the id up to which that is certain, else 0."""
    clear = max(settled(connection, owner), view.settling)
    found = _pending(connection, owner, max(after, clear) + 1, limit, view, unarchived=False)
    if found or after > clear:
        return found, 0
    return found, newest_id(connection, owner, view)


def entry_by_id(connection: Connection, owner: int, id_: int) -> Entry | None:
    """One entry of the owner's archive."""
    found = found_by_id(connection, owner, [id_], [_ARCHIVED])
    return found[0] if found else None


def first_and_last(connection: Connection, owner: int, view: View) -> tuple[Entry | None, Entry | None]:
    """The oldest and the newest entry of the owner's archive (XEP-0313 s4.1 metadata)."""
    if not view.tail:
        bounds = {"holder": owner, "through": view.through}
        ends = [connection.execute(query, bounds).first() for query in _ENDS]
        return tuple(None if row is None else _entry(owner, row) for row in ends)  # type: ignore[return-value]
    first = page(connection, owner, PageRequest(limit=1), view).entries
    last = page(connection, owner, PageRequest(limit=1, backwards=True), view).entries
    return (first[0] if first else None, last[0] if last else None)


def count(connection: Connection, owner: int, request: PageRequest, view: View) -> int:
    """How many entries a slice without limit would have (XEP-0059 s2.6), counted up to `MOST_COUNTED`."""
    if request.ids is not None:
        return len(page(connection, owner, request, view).entries)
    part = _narrowed(connection, owner, request, view)
    query = (
        select(entry.c.id)
        .select_from(entry.join(log, log.c.id == entry.c.id))
        .where(entry.c.owner == owner, entry.c.id >= part.bounds[0], entry.c.id <= part.bounds[1], *part.checks)
        .limit(MOST_COUNTED)
    )
    if request.peer is not None:
        query = query.where(with_peer(connection, request.peer))
    total: int = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    for ids in chunks(part.tail):
        checks = [log.c.id.in_(expanding(ids)), *part.tail_checks]
        total += connection.execute(select(func.count()).select_from(log).where(*checks)).scalar_one()
    return min(total, MOST_COUNTED)


def has_written(connection: Connection, owner: int, peer: str, view: View) -> bool:
    """Whether the owner's archive holds a message that it sent to ``peer`` (bare JID)."""
    checks = [_ARCHIVED, log.c.sender == owner]
    if _indexed(connection, owner, (0, view.through), checks, 1, peer=peer, backwards=True):
        return True
    return bool(_from_tail(connection, owner, tail_ids(connection, view, peer, (0, 2**62)), checks, 1))


def settled(connection: Connection, owner: int) -> int:
    """The id up to which nothing waits for the owner, 0 at first."""
    found = connection.execute(_SETTLED, {"holder": owner}).scalar_one_or_none()
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


def retract(
    connection: Connection, author: Side, other: Side, stanza_id: str, replace: Callable[[bytes], bytes]
) -> None:
    """Replace what ``author`` sent under ``stanza_id`` by what ``replace`` makes of its payload, for both sides."""
    place = position_of(connection, author, other, stanza_id)
    if place is None:
        return
    row = connection.execute(select(log.c.payload, log.c.treatment).where(log.c.id == place)).one()
    if row.treatment & Treatment.RETRACTED:
        return
    left = row.treatment & ~(Treatment.KEEP | Treatment.INSTANT) | Treatment.RETRACTED
    search.forget(connection, [place])
    connection.execute(
        update(log).where(log.c.id == place).values(payload=replace(bytes(row.payload)), treatment=int(left))
    )


_local = account.alias("local")
PEER: Final = func.coalesce(_local.c.jid, log.c.remote, "").label("peer")


# Every login asks these; made once they cost a third of what they cost made anew.
_SETTLED: Final = select(mailbox.c.settled).where(mailbox.c.account == bindparam("holder"))
_LAST: Final = select(func.max(entry.c.id)).where(
    entry.c.owner == bindparam("holder"), entry.c.id <= bindparam("through")
)
_INDEXED: Final = select(*_COLUMNS, func.coalesce(_local.c.jid, address.c.jid, "").label("peer")).select_from(
    entry.join(log, log.c.id == entry.c.id)
    .outerjoin(_local, _local.c.id == entry.c.peer)
    .outerjoin(address, address.c.id == -entry.c.peer)
)
_ENDS: Final = [
    _INDEXED.where(entry.c.owner == bindparam("holder"), entry.c.id <= bindparam("through"), _ARCHIVED)
    .order_by(order)
    .limit(1)
    for order in (entry.c.id, entry.c.id.desc())
]
_PENDING: Final = (
    _INDEXED.where(
        entry.c.owner == bindparam("holder"),
        entry.c.id >= bindparam("low"),
        entry.c.id <= bindparam("through"),
        _KEPT,
        log.c.recipient == bindparam("holder"),
    )
    .order_by(entry.c.id)
    .limit(bindparam("most"))
)


def rows_of(owner: int, ids: Sequence[int]) -> Select[Any]:
    """Rows of the log with these ids that the owner holds, oldest first, whether they have entries or not."""
    other = case((log.c.sender == owner, log.c.recipient), else_=log.c.sender)
    return (
        select(*_COLUMNS, PEER)
        .select_from(log.outerjoin(_local, _local.c.id == other))
        .where(log.c.id.in_(expanding(ids)), or_(log.c.sender == owner, log.c.recipient == owner))
        .order_by(log.c.id)
    )


def _indexed(
    connection: Connection,
    owner: int,
    bounds: Bounds,
    checks: Sequence[ColumnElement[bool]],
    limit: int,
    *,
    peer: str | None,
    backwards: bool,
) -> list[Entry]:
    query = (
        _INDEXED.where(entry.c.owner == owner, entry.c.id >= bounds[0], entry.c.id <= bounds[1], *checks)
        .order_by(entry.c.id.desc() if backwards else entry.c.id)
        .limit(limit)
    )
    if peer is not None:
        query = query.where(with_peer(connection, peer))
    return [_entry(owner, row) for row in connection.execute(query)]


def _from_tail(
    connection: Connection, owner: int, ids: Sequence[int], checks: Sequence[ColumnElement[bool]], limit: int
) -> list[Entry]:
    """The first ``limit`` of these that pass the checks, in the order given (up or down)."""
    found: list[Entry] = []
    for chunk in chunks(ids):
        part = found_by_id(connection, owner, chunk, checks)
        found += part[::-1] if chunk[0] > chunk[-1] else part
        if len(found) >= limit:
            break
    return found[:limit]


def found_by_id(
    connection: Connection, owner: int, ids: Sequence[int], checks: Sequence[ColumnElement[bool]]
) -> list[Entry]:
    found: list[Entry] = []
    for chunk in chunks(ids):
        found += [_entry(owner, row) for row in connection.execute(rows_of(owner, chunk).where(*checks))]
    return found


def tail_ids(connection: Connection, view: View, peer: str | None, bounds: Bounds) -> list[int]:
    if not view.tail:
        return []
    low, high = bounds
    if peer is None:
        return [id_ for id_, _ in view.tail if low <= id_ <= high]
    known = connection.execute(select(account.c.id).where(account.c.jid == peer)).scalar_one_or_none()
    return [id_ for id_, other in view.tail if low <= id_ <= high and other in (peer, known or -1)]


def _entry(owner: int, row: Any) -> Entry:
    id_, at, sender, recipient, kind, stanza_id, payload, treatment, peer = row
    if sender != owner:
        direction = Direction.INCOMING
    else:
        direction = Direction.TO_SELF if recipient == owner else Direction.OUTGOING
    return Entry(id_, at, peer, direction, _KINDS[kind], stanza_id, payload, treatment)
