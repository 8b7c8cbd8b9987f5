"""What one commit holds, and the transaction that writes it."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from sqlalchemy import Connection, MetaData, Table, select

from homeserver.domain.messages import Then
from homeserver.storage import dialect, log_index, schema
from homeserver.storage.log_index import LogRow

CrashPoint = Callable[[str], None]
"""A hook for tests: called with the name of a step of the commit, and may end the process there."""

CRASH_POINTS: Final = ("before_begin", "after_insert", "before_commit", "after_commit", "before_callbacks")
FILL_CRASH_POINTS: Final = ("before_fill_commit", "after_fill_commit")
"""Those of filling the entries, which is a transaction of its own on SQLite."""

SqlFunction = Callable[..., object]


@dataclass(slots=True)
class Also:
    """An SQL function that rides in the transaction; ``callback`` is its place in `Batch.thens`, or -1."""

    function: SqlFunction
    arguments: tuple[Any, ...]
    callback: int
    error: BaseException | None = None


@dataclass(slots=True)
class Batch:
    """Work of one transaction, gathered on the loop, written elsewhere."""

    rows: list[LogRow] = field(default_factory=list)
    also: list[Also] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)
    marked: dict[str, tuple[int, int]] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)
    outbox: list[Sequence[Any]] = field(default_factory=list)
    thens: list[Then] = field(default_factory=list)
    size: int = 0
    placed: list[LogRow] = field(default_factory=list)
    raised: dict[int, int] = field(default_factory=dict)
    guarded: bool = False
    mark: int = 0
    highest: int = 0

    @property
    def has_work(self) -> bool:
        return bool(self.rows or self.also or self.received or self.sent or self.settled or self.outbox)


class AlsoFailed(Exception):
    """A function of `Batch.also` raised; its error is noted there, and the batch must be written again without it."""


class BatchWriter:
    """Writes batches through a connection, one after the other.

    ``stride`` is that of the node's `domain/ids.py: IdSource`.

    ``outbox`` is the table of `Batch.outbox`; its columns with ``info={"filled_by": "database"}`` are left out of the
    tuples, those with ``info={"log_id": True}`` follow an id that had to be raised.
    """

    def __init__(self, name: str, outbox: Table | None, crash_point: CrashPoint, stride: int = 1) -> None:
        self._name = name
        self._stride = stride
        self._floor = 0
        self._crash_point = crash_point
        self._log = dialect.insert(schema.log)
        self._received = dialect.update(schema.stream, schema.stream.c.id, [schema.stream.c.received])
        self._sent = dialect.update(schema.stream, schema.stream.c.id, [schema.stream.c.sent, schema.stream.c.position])
        self._marked = dialect.update(
            schema.stream, schema.stream.c.id, [schema.stream.c.marked_sent, schema.stream.c.marked_position]
        )
        mailbox = schema.mailbox.c
        settle = "ON CONFLICT (account) DO UPDATE SET settled = {}(mailbox.settled, excluded.settled)"
        columns = [mailbox.account, mailbox.last_id, mailbox.settled]
        self._settle = {
            "max": dialect.insert(schema.mailbox, columns, settle.format("max")),
            "greatest": dialect.insert(schema.mailbox, columns, settle.format("greatest")),
        }
        self._meet = dialect.insert(schema.mailbox, columns, "ON CONFLICT (account) DO NOTHING")
        self._last = dialect.update(schema.mailbox, mailbox.account, [mailbox.last_id])
        self._outbox: dialect.Bulk | None = None
        self._outbox_ids: tuple[int, ...] = ()
        if outbox is not None:
            filled = [column for column in outbox.columns if column.info.get("filled_by") != "database"]
            self._outbox = dialect.insert(outbox, filled)
            self._outbox_ids = tuple(place for place, column in enumerate(filled) if column.info.get("log_id"))

    @classmethod
    def of_server(cls, metadata: MetaData, crash_point: CrashPoint, stride: int) -> Self:
        """The writer of this process, under a name of its own."""
        return cls(secrets.token_hex(8), metadata.tables.get("outbox"), crash_point, stride)

    def write(self, connection: Connection, batch: Batch) -> None:
        """Write ``batch`` in one transaction and commit it. Raises what the database raises, or `AlsoFailed`."""
        self._crash_point("before_begin")
        with connection.begin() if batch.also else dialect.transaction(connection):
            self._messages(connection, batch)
            self._crash_point("after_insert")
            self._rest(connection, batch)
            self._crash_point("before_commit")
        self._floor = max(self._floor, batch.highest)
        self._crash_point("after_commit")

    def was_committed(self, connection: Connection, batch: Batch) -> bool:
        """Whether ``batch`` is in the store, asked after a connection broke during its commit."""
        with connection.begin():
            if batch.placed:
                query = select(schema.log.c.id).where(schema.log.c.id == batch.placed[-1].id)
                return connection.execute(query).first() is not None
            mark = schema.commit_mark
            marked = connection.execute(mark.select().where(mark.c.writer == self._name)).first()
            return marked is not None and int(marked.batch) == batch.mark

    def fill(self, connection: Connection, through: int) -> None:
        """Give entries to the log up to ``through``, in a transaction of its own."""
        with connection.begin():
            log_index.fill(connection, through)
            self._crash_point("before_fill_commit")
        self._crash_point("after_fill_commit")

    def forget_mark(self, connection: Connection) -> None:
        """Remove this writer's mark when it ends."""
        with connection.begin():
            connection.execute(schema.commit_mark.delete().where(schema.commit_mark.c.writer == self._name))

    def _messages(self, connection: Connection, batch: Batch) -> None:
        if dialect.is_sqlite(connection):
            batch.placed = batch.rows
            self._log.run(connection, batch.rows)
            return
        self._place(connection, batch)
        self._log.run(connection, batch.placed)
        if batch.placed:
            log_index.fill_ids(connection, [row.id for row in batch.placed])

    def _rest(self, connection: Connection, batch: Batch) -> None:
        if batch.received:
            self._received.run(connection, sorted(batch.received.items()))
        if batch.sent:
            self._sent.run(connection, sorted((name, *found) for name, found in batch.sent.items()))
        if batch.marked:
            self._marked.run(connection, sorted((name, *found) for name, found in batch.marked.items()))
        if batch.settled:
            rows = sorted((account, 0, position) for account, position in batch.settled.items())
            self._settle[dialect.greatest(connection)].run(connection, rows)
        if batch.outbox:
            if self._outbox is None:
                raise RuntimeError("an outbox row was queued, but the schema has no outbox")
            self._outbox.run(connection, self._moved(batch))
        for also in batch.also:
            if also.error is None:
                self._run(connection, batch, also)

    def _run(self, connection: Connection, batch: Batch, also: Also) -> None:
        try:
            if batch.guarded:
                with connection.begin_nested():
                    also.function(connection, *also.arguments)
            else:
                also.function(connection, *also.arguments)
        except Exception as error:
            if connection.invalidated or _rolled_back(connection):
                raise
            also.error = error
            if not batch.guarded:
                batch.guarded = True
                raise AlsoFailed from error

    def _moved(self, batch: Batch) -> list[Sequence[Any]]:
        if not batch.raised or not self._outbox_ids:
            return batch.outbox
        moved: list[Sequence[Any]] = []
        for row in batch.outbox:
            values = list(row)
            for place in self._outbox_ids:
                values[place] = batch.raised.get(values[place], values[place])
            moved.append(values)
        return moved

    def _place(self, connection: Connection, batch: Batch) -> None:
        """Lock the mailboxes of the batch and raise ids that another node has overtaken (PostgreSQL).

        The locks are taken in ascending account and held to the end of the transaction, so ids of one mailbox become
        visible in their order and two nodes never wait for each other in a circle.
        """
        owners = {owner for row in batch.rows for owner in row[2:4] if owner is not None and row.treatment & 3}
        accounts = sorted(owners.union(batch.settled))
        last: dict[int, int] = {}
        if accounts:
            self._meet.run(connection, [(account, 0, 0) for account in accounts])
            locked = connection.exec_driver_sql(
                "SELECT account, last_id FROM mailbox WHERE account = ANY ($1::integer[]) ORDER BY account FOR UPDATE",
                (accounts,),
            )
            last = dict(tuple(row) for row in locked)
        batch.highest = _place_rows(batch, last, self._floor, self._stride)
        self._last.run(connection, [(account, last[account]) for account in sorted(owners)])
        if not batch.rows and (batch.also or batch.outbox):
            connection.exec_driver_sql(
                "INSERT INTO commit_mark (writer, batch) VALUES ($1, $2)"
                " ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch",
                (self._name, batch.mark),
            )


def _rolled_back(connection: Connection) -> bool:
    """Whether SQLite ended the transaction by itself, as it does when the disk is full."""
    driver = connection.connection.driver_connection
    return dialect.is_sqlite(connection) and driver is not None and not driver.in_transaction


def _place_rows(batch: Batch, last: dict[int, int], floor: int, stride: int) -> int:
    """Fill ``batch.placed``: every id above ``floor``, above the row before and above the last of both mailboxes.

    An id moves by whole strides, so it keeps the residue of its node and ids of two nodes never meet. ``last`` is
    brought up to date; returns the highest id given.
    """
    batch.placed, batch.raised = [], {}
    for row in batch.rows:
        owners = [owner for owner in row[2:4] if owner is not None and owner in last]
        low = max([floor, *(last[owner] for owner in owners)])
        if row.id <= low:
            batch.raised[row.id] = row.id + ((low - row.id) // stride + 1) * stride
            row = row._replace(id=batch.raised[row.id])
        batch.placed.append(row)
        floor = row.id
        for owner in owners:
            last[owner] = floor
    return floor
