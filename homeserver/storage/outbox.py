"""SQL for the durable queue to other servers and for what is known of each destination.

Rows of a destination that have a number are always its first ones in the order of ``id``; the k-th of them has the
number ``settled + k``. So numbering a batch or settling one is a change of one row of ``destination``, whatever the
size of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from homeserver.domain.federation import Numbering
from homeserver.storage.schema import destination, log, outbox


class OutboxRow(NamedTuple):
    """One durable stanza for one destination, in the order of the table's columns.

    ``destination`` is the integer id of the table of that name. ``payload`` is None where the log has the stanza under
    ``log_id``, or where the row is a void.
    """

    destination: int
    id: int
    created: float
    sender: str
    stanza_id: str | None
    log_id: int | None
    payload: bytes | None
    void: str | None = None


@dataclass(slots=True)
class DestinationRow:
    """One (hosted domain, peer domain) with its numbering, back-off and backlog."""

    id: int
    origin: str
    domain: str
    numbering: Numbering
    assigned_id: int
    sent_id: int
    failures: int
    retry_at: float
    waiting_since: float | None
    last_error: str | None
    heard_at: float
    backlog: int
    newest: int


def insert_destination(connection: Connection, number: int, origin: str, domain: str, epoch: str) -> None:
    connection.execute(
        insert(destination).values(
            id=number, origin=origin, domain=domain, epoch=epoch, named_until=0, settled=0, assigned=0, assigned_id=0,
            sent_id=0, failures=0, retry_at=0.0, heard_at=0.0,
        )
    )  # fmt: skip


def destinations(connection: Connection) -> list[DestinationRow]:
    """All destinations with their backlog."""
    counts = (
        select(outbox.c.destination, func.count().label("backlog"), func.max(outbox.c.id).label("newest"))
        .group_by(outbox.c.destination)
        .subquery()
    )
    query = select(destination, counts.c.backlog, counts.c.newest).outerjoin(
        counts, counts.c.destination == destination.c.id
    )
    return [
        DestinationRow(
            id=row.id,
            origin=row.origin,
            domain=row.domain,
            numbering=Numbering(row.epoch, row.settled, row.assigned, row.previous_epoch, row.named_until),
            assigned_id=row.assigned_id,
            sent_id=row.sent_id,
            failures=row.failures,
            retry_at=row.retry_at,
            waiting_since=row.waiting_since,
            last_error=row.last_error,
            heard_at=row.heard_at,
            backlog=row.backlog or 0,
            newest=row.newest or 0,
        )
        for row in connection.execute(query)
    ]


def page(connection: Connection, number: int, after: int, limit: int) -> list[OutboxRow]:
    """Rows of a destination with an id above ``after``, oldest first, the stanza filled in from the log."""
    query = (
        select(outbox, log.c.payload.label("logged"))
        .outerjoin(log, and_(log.c.id == outbox.c.log_id, outbox.c.payload.is_(None)))
        .where(outbox.c.destination == number, outbox.c.id > after)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [_row(row) for row in connection.execute(query)]


def save_progress(
    connection: Connection, number: int, numbering: Numbering, assigned_id: int, sent_id: int, settled_id: int | None
) -> None:
    """Store the numbering and delete the rows it settles, those up to ``settled_id``."""
    if settled_id is not None:
        connection.execute(delete(outbox).where(outbox.c.destination == number, outbox.c.id <= settled_id))
    connection.execute(
        update(destination)
        .where(destination.c.id == number)
        .values(
            epoch=numbering.epoch,
            previous_epoch=numbering.previous,
            named_until=numbering.named_until,
            settled=numbering.settled,
            assigned=numbering.assigned,
            assigned_id=assigned_id,
            sent_id=sent_id,
        )
    )


def begin_epoch(connection: Connection, number: int, numbering: Numbering) -> int:
    """Start over: voids have no number to keep any more and go, the rest is unnumbered. Returns what waits."""
    connection.execute(delete(outbox).where(outbox.c.destination == number, outbox.c.void.is_not(None)))
    waiting: int = connection.execute(
        select(func.count()).select_from(outbox).where(outbox.c.destination == number)
    ).scalar_one()
    connection.execute(
        update(destination)
        .where(destination.c.id == number)
        .values(
            epoch=numbering.epoch,
            previous_epoch=numbering.previous,
            named_until=waiting,
            settled=0,
            assigned=0,
            assigned_id=0,
        )
    )
    return waiting


def save_wait(
    connection: Connection,
    number: int,
    failures: int,
    retry_at: float,
    waiting_since: float | None,
    last_error: str | None,
    heard_at: float,
) -> None:
    """Store the back-off of a destination and when it was last heard from."""
    connection.execute(
        update(destination)
        .where(destination.c.id == number)
        .values(
            failures=failures,
            retry_at=retry_at,
            waiting_since=waiting_since,
            last_error=last_error,
            heard_at=heard_at,
        )
    )


def remove(connection: Connection, number: int, ids: Sequence[int], numbered_to: int, reason: str) -> None:
    """Give up rows: those with a number become voids, the others go."""
    numbered = [row for row in ids if row <= numbered_to]
    plain = [row for row in ids if row > numbered_to]
    if numbered:
        connection.execute(
            update(outbox)
            .where(outbox.c.destination == number, outbox.c.id.in_(numbered))
            .values(void=reason, payload=None, log_id=None)
        )
    if plain:
        connection.execute(delete(outbox).where(outbox.c.destination == number, outbox.c.id.in_(plain)))


def _row(row: "Row[tuple[object, ...]]") -> OutboxRow:
    payload = row.payload if row.payload is not None else row.logged
    void = row.void
    if payload is None and void is None:
        void = "dropped"  # the log was purged under it; its number must still be accounted for
    return OutboxRow(row.destination, row.id, row.created, row.sender, row.stanza_id, row.log_id, payload, void)
