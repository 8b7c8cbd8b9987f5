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
    and_,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    update,
)

from homeserver.domain.messages import Direction, Entry, Kind, Page, PageRequest, Treatment
from homeserver.storage import search
from homeserver.storage.log_index import View
from homeserver.storage.places import Side, chunks, expanding, position_of, with_peer
from homeserver.storage.schema import account, address, entry, log, log_state, mailbox, metadata

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
    checks = [_KEPT, log.c.recipient == owner]
    if unarchived:
        checks.append(~_ARCHIVED)
    found = _indexed(connection, owner, (low, view.through), checks, limit, peer=None, backwards=False)
    if len(found) < limit:
        tail = tail_ids(connection, view, None, (low, 2**62))
        found += _from_tail(connection, owner, tail, checks, limit - len(found))
    return found


def newest_id(connection: Connection, owner: int, view: View) -> int:
    """The highest id of the owner's entries, archived or waiting; 0 without any."""
    if view.tail:
        return view.tail[-1][0]
    query = select(func.max(entry.c.id)).where(entry.c.owner == owner, entry.c.id <= view.through)
    return connection.execute(query).scalar_one() or 0


def pending_or_newest(
    connection: Connection, owner: int, after: int, limit: int, view: View
) -> tuple[list[Entry], int]:
    """`pending`; when nothing waits above the settled position also the id up to which that is certain, else 0."""
    found = pending(connection, owner, after, limit, view)
    if found or after > max(settled(connection, owner), view.settling):
        return found, 0
    return found, newest_id(connection, owner, view)


def entry_by_id(connection: Connection, owner: int, id_: int) -> Entry | None:
    """One entry of the owner's archive."""
    found = found_by_id(connection, owner, [id_], [_ARCHIVED])
    return found[0] if found else None


def first_and_last(connection: Connection, owner: int, view: View) -> tuple[Entry | None, Entry | None]:
    """The oldest and the newest entry of the owner's archive (XEP-0313 s4.1 metadata)."""
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
    found = connection.execute(select(mailbox.c.settled).where(mailbox.c.account == owner)).scalar_one_or_none()
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
    for ids in chunks([id_ for id_, *_ in rows]):
        search.forget(connection, ids)
        connection.execute(delete(log).where(log.c.id.in_(expanding(ids))))
    return len(rows)


def purge_owner(connection: Connection, owner: int) -> None:
    """Remove everything the owner holds; messages stay for the other side that holds them too."""
    name = select(account.c.jid).where(account.c.id == owner).scalar_subquery()
    alone = or_(
        and_(log.c.sender == owner, log.c.recipient.is_(None)),
        and_(log.c.recipient == owner, log.c.sender.is_(None)),
        and_(log.c.recipient == owner, log.c.sender == owner),
    )
    for ids in chunks(connection.execute(select(log.c.id).where(alone, ~_queued())).scalars().all()):
        search.forget(connection, ids)
        connection.execute(delete(log).where(log.c.id.in_(expanding(ids))))
    connection.execute(update(log).where(log.c.sender == owner).values(sender=None, remote=name))
    connection.execute(update(log).where(log.c.recipient == owner).values(recipient=None, remote=name))
    connection.execute(delete(entry).where(entry.c.owner == owner))
    connection.execute(delete(mailbox).where(mailbox.c.account == owner))


def hide(connection: Connection, owner: int, id_: int) -> bool:
    """Take one message out of the owner's archive; it stays for the other side that holds it too. False: not there."""
    row = connection.execute(select(log.c.sender, log.c.recipient).where(log.c.id == id_)).one_or_none()
    if row is None or owner not in row:
        return False
    if {*row} <= {owner, None}:
        search.forget(connection, [id_])
        connection.execute(delete(log).where(log.c.id == id_, ~_queued()))
        # What another server has yet to be given stays without an owner.
        connection.execute(update(log).where(log.c.id == id_).values(sender=None, recipient=None))
    else:
        name = select(account.c.jid).where(account.c.id == owner).scalar_subquery()
        side = {"sender": None} if row.sender == owner else {"recipient": None}
        connection.execute(update(log).where(log.c.id == id_).values(remote=name, **side))
    connection.execute(delete(entry).where(entry.c.owner == owner, entry.c.id == id_))
    return True


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


def _queued() -> ColumnElement[bool]:
    """Whether a message of the log is still needed by the outbox, whose column says that it refers to the log."""
    outbox = metadata.tables.get("outbox")
    columns = [column for column in outbox.columns if column.info.get("log_id")] if outbox is not None else []
    return or_(false(), *(exists().where(column == log.c.id).correlate(log) for column in columns))


_local = account.alias("local")
PEER: Final = func.coalesce(_local.c.jid, log.c.remote, "").label("peer")


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
        select(*_COLUMNS, func.coalesce(_local.c.jid, address.c.jid, "").label("peer"))
        .select_from(
            entry.join(log, log.c.id == entry.c.id)
            .outerjoin(_local, _local.c.id == entry.c.peer)
            .outerjoin(address, address.c.id == -entry.c.peer)
        )
        .where(entry.c.owner == owner, entry.c.id >= bounds[0], entry.c.id <= bounds[1], *checks)
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
