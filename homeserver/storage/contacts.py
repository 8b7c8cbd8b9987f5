"""SQL for rosters, subscriptions and the requests that wait for an answer.

A row of ``contact`` is a roster item, a request of someone who is no item, or what is left of a removed item so that a
client with an older copy of the roster can be told (RFC 6121 s2.6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, update

from homeserver.domain.errors import ResourceConstraint
from homeserver.domain.rosters import Contact, Roster
from homeserver.domain.subscriptions import State
from homeserver.protocol.jid import JID
from homeserver.storage import dialect
from homeserver.storage.schema import contact as table
from homeserver.storage.schema import roster_version

REMOVED_KEPT: Final = 128
"""Removed items that are remembered per roster; past twice that, older clients get the whole roster again."""

_ASKED: Final = tuple(int(state) for state in State if state.is_asked)
_STATES: Final = tuple(State)
_COLUMNS: Final = (
    table.c.jid,
    table.c.name,
    table.c.groups,
    table.c.state,
    table.c.approved,
    table.c.listed,
    table.c.version,
)
_ALL: Final = select(*_COLUMNS).where(table.c.account == bindparam("owner")).order_by(table.c.jid)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change of one contact. ``decide`` makes the new contact from the old one, in the transaction; ``now`` is in
    microseconds; ``request`` is the stanza that is kept if the contact now waits for an answer."""

    account: int
    jid: JID
    decide: Callable[[Contact], Contact]
    now: int
    request: bytes | None
    max_listed: int
    max_requests: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What one change made of one contact; ``forgotten`` when no row is left of it. ``version`` and ``floor`` are those
    of the roster afterwards."""

    before: Contact
    after: Contact
    forgotten: bool
    version: int
    floor: int

    @property
    def is_visible(self) -> bool:
        """Whether clients that hold the roster must be told."""
        return not self.before.looks_like(self.after)


def load(conn: Connection, account: int) -> Roster:
    """The whole roster of an account, with requests and remembered removals."""
    head = conn.execute(
        select(roster_version.c.version, roster_version.c.floor).where(roster_version.c.account == account)
    ).first()
    version, floor = (head.version, head.floor) if head else (0, 0)
    rows = conn.execute(_ALL, {"owner": account})
    known: dict[str, tuple[str, ...]] = {"[]": ()}
    return Roster(account, version, floor, [_contact(row, known) for row in rows])


def change(conn: Connection, wanted: Wanted) -> Changed:
    """Read one contact, let ``decide`` make the new one, and store it with the next version of the roster.

    Versions are at least the time, so that one given out before a restore from backup is never given out again. Raises
    `ResourceConstraint` where the roster or the list of requests is full, and whatever ``decide`` raises; then nothing
    is stored.
    """
    account, jid = wanted.account, wanted.jid
    version, floor = _lock(conn, account, wanted.now)
    key = (table.c.account == account, table.c.jid == jid.bare)
    row = conn.execute(select(*_COLUMNS).where(*key)).first()
    before = Contact(jid) if row is None else _contact(row, {})
    after = wanted.decide(before)
    if after.listed and not before.listed:
        _refuse_above(conn, wanted.max_listed, table.c.account == account, table.c.listed)
    if after.state.is_asked and not before.state.is_asked:
        _refuse_above(conn, wanted.max_requests, table.c.account == account, table.c.state.in_(_ASKED))
    if not before.looks_like(after):
        version = max(version + 1, wanted.now)
        after = replace(after, version=version)
        conn.execute(update(roster_version).where(roster_version.c.account == account).values(version=version))
    forgotten = not after.listed and not after.state.is_asked and after.version <= floor
    if forgotten:
        conn.execute(delete(table).where(*key))
    elif after != before:
        values = _values(before, after, wanted.request)
        if row is None:
            conn.execute(table.insert().values(account=account, jid=jid.bare, **values))
        else:
            conn.execute(update(table).where(*key).values(values))
        if before.listed and not after.listed:
            floor = _trim(conn, account, floor)
    return Changed(before, after, forgotten, version, floor)


def requests(conn: Connection, account: int) -> Sequence[tuple[str, bytes]]:
    """Bare JID and stored stanza of every request that waits for an answer."""
    rows = conn.execute(
        select(table.c.jid, table.c.request)
        .where(table.c.account == account, table.c.state.in_(_ASKED), table.c.request.is_not(None))
        .order_by(table.c.jid)
    )
    return [(row.jid, bytes(row.request)) for row in rows]


def clear(conn: Connection, account: int) -> None:
    """Remove everything an account holds about contacts."""
    conn.execute(delete(table).where(table.c.account == account))
    conn.execute(delete(roster_version).where(roster_version.c.account == account))


def _lock(conn: Connection, account: int, now: int) -> tuple[int, int]:
    """Take the roster's row to the end of the transaction, so that changes of one roster happen one after another."""
    conn.execute(
        dialect.upsert(conn, roster_version).values(account=account, version=now, floor=now).on_conflict_do_nothing()
    )
    row = conn.execute(
        select(roster_version.c.version, roster_version.c.floor)
        .where(roster_version.c.account == account)
        .with_for_update()
    ).one()
    return row.version, row.floor


def _refuse_above(conn: Connection, limit: int, *where: ColumnElement[bool]) -> None:
    found = conn.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
    if found >= limit:
        raise ResourceConstraint("the contact list is full")


def _values(before: Contact, after: Contact, request: bytes | None) -> dict[str, object]:
    values: dict[str, object] = {
        "name": after.name,
        "groups": msgspec.json.encode(after.groups).decode(),
        "state": int(after.state),
        "approved": after.approved,
        "listed": after.listed,
        "version": after.version,
    }
    if not after.state.is_asked:
        values["request"] = None
    elif not before.state.is_asked:
        values["request"] = request
    return values


def _trim(conn: Connection, account: int, floor: int) -> int:
    removed = (table.c.account == account, table.c.listed.is_(False), table.c.version > floor)
    found = conn.execute(select(table.c.version).where(*removed).order_by(table.c.version.desc())).scalars().all()
    if len(found) <= 2 * REMOVED_KEPT:
        return floor
    floor = found[REMOVED_KEPT]
    conn.execute(update(roster_version).where(roster_version.c.account == account).values(floor=floor))
    conn.execute(
        delete(table).where(
            table.c.account == account,
            table.c.listed.is_(False),
            table.c.state.not_in(_ASKED),
            table.c.version <= floor,
        )
    )
    return floor


def _contact(row: Any, known: dict[str, tuple[str, ...]]) -> Contact:
    """``known`` are groups that were met before, by their text: the contacts of a roster share them."""
    jid, name, groups, state, approved, listed, version = row
    names = known.get(groups)
    if names is None:
        names = known[groups] = tuple(intern(group) for group in msgspec.json.decode(groups, type=list[str]))
    return Contact(JID.parse(jid), name, names, _STATES[state], bool(approved), bool(listed), version)
