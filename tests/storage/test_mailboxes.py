"""Paging the archive equals a plain list, whatever part of the log has entries already."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection

from homeserver.domain.messages import Direction, PageRequest, Treatment
from homeserver.storage import dialect, inbox, log_index, mailbox_removal, mailboxes, schema
from homeserver.storage.database import Database
from homeserver.storage.log_index import EVERYTHING, LogRow, Tail, View

_fresh = count(1000)
_INSERT = dialect.insert(schema.log)
PEERS = ("u2@example.org", "u3@example.org", "far@example.net")


@dataclass
class Model:
    """The naive archive of one owner: (id, at, peer, direction) and what waits."""

    entries: list[tuple[int, int, str, Direction]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    def page(self, request: PageRequest) -> tuple[list[int], bool]:
        found = [
            id_
            for id_, at, peer, _ in self.entries
            if (request.peer is None or peer == request.peer)
            and (request.after is None or id_ > request.after)
            and (request.before is None or id_ < request.before)
            and (request.start is None or at >= request.start)
            and (request.end is None or at <= request.end)
        ]
        if request.backwards:
            return found[len(found) - request.limit :] if len(found) > request.limit else found, len(
                found
            ) <= request.limit
        return found[: request.limit], len(found) <= request.limit


@st.composite
def archives(draw: st.DrawFn) -> list[tuple[int, int, int, Treatment]]:
    """Steps: (microseconds since the last, lead of the id, who with and which way, treatment)."""
    step = st.tuples(
        st.integers(0, 5),
        st.integers(0, 8),
        st.integers(0, 6),
        st.sampled_from([Treatment.ARCHIVE, Treatment.KEEP, Treatment.ARCHIVE | Treatment.KEEP]),
    )
    return draw(st.lists(step, min_size=1, max_size=40))


def build(steps: Sequence[tuple[int, int, int, Treatment]], owner: int, base: int) -> tuple[list[LogRow], Model]:
    model, rows, now, last = Model(), [], base, base
    for pause, lead, who, treatment in steps:
        now += pause
        last = max(last + 1, now + lead)
        local = {0: 2, 1: 3}
        sender: int | None = owner
        recipient: int | None = owner
        remote = None
        if who == 6:
            peer, direction = "", Direction.TO_SELF
        elif who < 3:
            peer, direction = PEERS[who], Direction.OUTGOING
            recipient = local.get(who)
            remote = PEERS[2] if who == 2 else None
        else:
            peer, direction = PEERS[who - 3], Direction.INCOMING
            sender = local.get(who - 3)
            remote = PEERS[2] if who == 5 else None
        rows.append(LogRow(last, now, sender, recipient, remote, 1, int(treatment), None, None, b"<message/>"))
        if treatment & Treatment.ARCHIVE:
            model.entries.append((last, now, peer, direction))
        if treatment & Treatment.KEEP and recipient == owner:
            model.waiting.append(last)
    return rows, model


def store(connection: Connection, rows: Sequence[LogRow], indexed: int) -> View:
    """Put rows into the log; the first ``indexed`` have entries, the rest is the tail (all have on PostgreSQL)."""
    _INSERT.run(connection, rows)
    if not dialect.is_sqlite(connection):
        log_index.fill_ids(connection, [row.id for row in rows])
        return EVERYTHING
    through = rows[indexed - 1].id if indexed else rows[0].id - 1
    log_index.fill(connection, through)
    tail = Tail(through)
    tail.add(rows[indexed:])
    found = next(owner for owner in (rows[0].sender, rows[0].recipient) if owner is not None and owner >= 1000)
    return tail.view(found)


requests = st.builds(
    PageRequest,
    limit=st.integers(1, 12),
    peer=st.sampled_from([None, *PEERS, "nobody@example.com"]),
    after=st.none() | st.integers(0, 150),
    before=st.none() | st.integers(0, 150),
    start=st.none() | st.integers(0, 150),
    end=st.none() | st.integers(0, 150),
    backwards=st.booleans(),
)


def moved(request: PageRequest, base: int) -> PageRequest:
    def shift(value: int | None) -> int | None:
        return None if value is None else value + base

    return PageRequest(
        request.limit,
        request.peer,
        shift(request.after),
        shift(request.before),
        shift(request.start),
        shift(request.end),
        None,
        request.backwards,
    )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=archives(), asked=st.lists(requests, min_size=5, max_size=12), part=st.floats(0, 1))
async def test_pages_equal_a_plain_list(
    database: Database, steps: list[tuple[int, int, int, Treatment]], asked: list[PageRequest], part: float
) -> None:
    owner = next(_fresh)
    base = owner * 1_000_000
    rows, model = build(steps, owner, base)
    view = await database.write(store, rows, int(part * len(rows)))
    for request in (moved(found, base) for found in asked):
        page = await database.read(mailboxes.page, owner, request, view)
        assert ([entry.id for entry in page.entries], page.complete) == model.page(request)
        expected = {id_: (at, peer, direction) for id_, at, peer, direction in model.entries}
        for entry in page.entries:
            assert (entry.at, entry.peer, entry.direction) == expected[entry.id]
    waiting = await database.read(mailboxes.pending, owner, 0, 100, view)
    assert [entry.id for entry in waiting] == model.waiting
    total = await database.read(mailboxes.count, owner, PageRequest(1), view)
    assert total == len(model.entries)
    newest: dict[str, int] = {}
    for id_, _, peer, _ in model.entries:
        newest[peer] = id_
    listed: list[tuple[int, str]] = []
    before = None
    while found := await database.read(inbox.conversations, owner, before, 2, view):
        listed += [(each.last.id, each.peer) for each in found]
        before = found[-1].last.id
    assert listed == sorted(((id_, peer) for peer, id_ in newest.items()), reverse=True)
    first, last = await database.read(mailboxes.first_and_last, owner, view)
    assert [first and first.id, last and last.id] == (
        [model.entries[0][0], model.entries[-1][0]] if model.entries else [None, None]
    )


async def test_entries_by_id_are_the_owners_own(database: Database) -> None:
    rows = [
        LogRow(5, 5, 1, 2, None, 1, 1, "a", None, b"<message/>"),
        LogRow(6, 6, 3, 4, None, 1, 1, "b", None, b"<m/>"),
    ]
    await database.write(store_all, rows)
    found = await database.read(mailboxes.entry_by_id, 2, 5)
    assert found is not None
    assert (found.peer, found.direction, found.stanza_id) == ("u1@example.org", Direction.INCOMING, "a")
    assert await database.read(mailboxes.entry_by_id, 2, 6) is None
    page = await database.read(mailboxes.page, 2, PageRequest(10, ids=(6, 5, 4)), EVERYTHING)
    assert [entry.id for entry in page.entries] == [5]


async def test_purging_old_messages_spares_what_waits(database: Database) -> None:
    both = int(Treatment.ARCHIVE | Treatment.KEEP)
    rows = [LogRow(id_, id_, 1, 2, None, 1, both, None, None, b"<message/>") for id_ in range(1, 11)]
    await database.write(store_all, rows)
    await database.write(settle, 2, 4)
    assert await database.write(mailbox_removal.purge_before, 8, 3) == 3
    assert await database.write(mailbox_removal.purge_before, 8, 100) == 1
    assert await database.write(mailbox_removal.purge_before, 8, 100) == 0
    assert [entry.id for entry in (await database.read(mailboxes.page, 1, PageRequest(99), EVERYTHING)).entries] == [
        *range(5, 11)
    ]
    assert await database.write(mailbox_removal.purge_before, 99, 100, False) == 6
    assert await database.read(inbox.conversations, 1, None, 10, EVERYTHING) == []


async def test_a_removed_account_leaves_the_other_side_its_copy(database: Database) -> None:
    rows = [
        LogRow(5, 5, 1, 2, None, 1, 1, None, None, b"<message/>"),
        LogRow(6, 6, 1, None, "far@example.net", 1, 1, None, None, b"<message/>"),
    ]
    await database.write(store_all, rows)
    await database.write(mailbox_removal.purge_owner, 1)
    assert (await database.read(mailboxes.page, 1, PageRequest(9), EVERYTHING)).entries == []
    page = await database.read(mailboxes.page, 2, PageRequest(9), EVERYTHING)
    assert [(entry.id, entry.peer) for entry in page.entries] == [(5, "u1@example.org")]
    assert await database.read(mailboxes.count, 2, PageRequest(1, peer="u1@example.org"), EVERYTHING) == 1


def store_all(connection: Connection, rows: Sequence[LogRow]) -> None:
    _INSERT.run(connection, rows)
    if dialect.is_sqlite(connection):
        log_index.fill(connection, rows[-1].id)
    else:
        log_index.fill_ids(connection, [row.id for row in rows])


def settle(connection: Connection, account: int, position: int) -> None:
    connection.execute(schema.mailbox.insert().values(account=account, last_id=0, settled=position))
