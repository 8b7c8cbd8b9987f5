"""One destination's queue in memory: the durable rows at its head, and what passes by.

Rows enter when their commit is through, so what is here is on disk as well. The window is bounded; when it overflows,
rows stay on disk only and `Lane.load` brings them back in order. Passing stanzas are here and nowhere else.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.domain.federation import Numbering
from homeserver.storage.outbox import DestinationRow, OutboxRow

WINDOW_ROWS: Final = 2000
WINDOW_BYTES: Final = 4 * 1024 * 1024
PASSING_STANZAS: Final = 500
PASSING_BYTES: Final = 512 * 1024
PASSING_AGE: Final = 30.0
"""Seconds after which presence, chat states and queries are of no use to anyone."""

Failed = Callable[[str], None]
"""Called with the stanza error condition when a passing stanza that wants an answer will get none."""


@dataclass(slots=True)
class Passing:
    """A stanza that is not worth a disk: ``barrier`` is the last durable row queued before it."""

    payload: bytes
    at: float
    barrier: int
    failed: Failed | None


@dataclass(slots=True)
class Claim:
    """What one request carries. The first row has the number ``first``."""

    first: int
    rows: list[OutboxRow]
    passing: list[Passing]


@dataclass(frozen=True, slots=True)
class QueueState:
    """What an operator sees of one destination. Times are seconds since the epoch, None where there is none."""

    origin: str
    destination: str
    waiting: int
    in_doubt: int
    failures: int
    waiting_since: float | None
    next_try: float | None
    last_error: str | None
    last_heard: float | None


class Lane:
    """The queue of one (hosted domain, peer domain).

    ``turn`` is held by whoever sends, expires or drops rows, so that a row never changes while a request with it is
    under way. ``stored`` says that the table of destinations has it, ``unsaved`` that rows are settled here and not yet
    on disk. ``retry_at`` is wall time, in the past when the destination may be tried. ``unreachable`` is set once
    the face was told that the peer is away.
    """

    __slots__ = (
        "assigned_id",
        "backlog",
        "committed",
        "complete",
        "destination",
        "failed_at",
        "failures",
        "heard_at",
        "id",
        "last_error",
        "newest",
        "numbering",
        "origin",
        "passing",
        "passing_bytes",
        "retry_at",
        "rows",
        "sent_id",
        "settled_id",
        "stored",
        "turn",
        "unreachable",
        "unsaved",
        "waiting_since",
        "window_bytes",
    )

    def __init__(self, row: DestinationRow) -> None:
        self.id = row.id
        self.origin = row.origin
        self.destination = row.domain
        self.numbering: Numbering = row.numbering
        self.assigned_id = row.assigned_id
        self.sent_id = row.sent_id
        self.settled_id = 0
        self.failures = row.failures
        self.retry_at = row.retry_at
        self.waiting_since = row.waiting_since
        self.last_error = row.last_error
        self.heard_at = row.heard_at
        self.backlog = row.backlog
        self.newest = self.committed = row.newest
        self.complete = row.backlog == 0
        self.rows: deque[OutboxRow] = deque()
        self.window_bytes = 0
        self.passing: deque[Passing] = deque()
        self.passing_bytes = 0
        self.turn = asyncio.Lock()
        self.unreachable = False
        self.stored = True
        self.unsaved = False
        self.failed_at = 0.0

    @property
    def has_work(self) -> bool:
        return self.backlog > 0 or bool(self.passing)

    @property
    def can_send(self) -> bool:
        """Whether the next request would carry something; what passes may have to wait for a commit under way."""
        return bool(self.rows) or not self.complete or bool(self.passing and self.passing[0].barrier <= self.committed)

    def state(self) -> QueueState:
        """For operators."""
        return QueueState(
            origin=self.origin,
            destination=self.destination,
            waiting=self.backlog,
            in_doubt=self.numbering.in_doubt,
            failures=self.failures,
            waiting_since=self.waiting_since,
            next_try=self.retry_at or None,
            last_error=self.last_error,
            last_heard=self.heard_at or None,
        )

    def entered(self, row: OutboxRow, payload: bytes) -> None:
        """Take a row whose commit is through; ``payload`` is its stanza, wherever it is stored."""
        self.backlog += 1
        self.committed = max(self.committed, row.id)
        if not self.complete or row.id <= self.last_loaded():
            return
        if len(self.rows) >= WINDOW_ROWS or self.window_bytes + len(payload) > WINDOW_BYTES:
            self.complete = False
            return
        self.rows.append(row if row.payload is not None else row._replace(payload=payload))
        self.window_bytes += len(payload)

    def lost(self, row: OutboxRow) -> None:
        """The commit of a row failed; what passes no longer waits for it."""
        self.committed = max(self.committed, row.id)

    def last_loaded(self) -> int:
        """The id after which the window goes on."""
        return self.rows[-1].id if self.rows else self.settled_id

    def load(self, rows: Sequence[OutboxRow]) -> None:
        """Append rows read from disk after `last_loaded`, all that there were or as many as fit."""
        for row in rows:
            self.rows.append(row)
            self.window_bytes += len(row.payload or b"")
        self.complete = self.last_loaded() >= self.committed
        if not rows:
            self.complete = True
            self.backlog = len(self.rows)

    def head(self, stanzas: int, size: int) -> list[OutboxRow]:
        """The rows for the next request: at most ``stanzas`` and about ``size`` bytes, but one if there is one."""
        taken: list[OutboxRow] = []
        for row in self.rows:
            size -= len(row.payload or b"") + 64
            if taken and (size < 0 or len(taken) >= stanzas):
                break
            taken.append(row)
        return taken

    def take_passing(self, rows: list[OutboxRow], size: int, now: float) -> list[Passing]:
        """Remove and return what may pass behind ``rows``: never ahead of a durable row queued before it."""
        covered = rows[-1].id if rows else 0
        if len(rows) == len(self.rows) and self.complete:
            covered = self.committed
        taken: list[Passing] = []
        self.drop_old(now)
        while self.passing and self.passing[0].barrier <= covered and size > 0:
            one = self.passing.popleft()
            self.passing_bytes -= len(one.payload)
            size -= len(one.payload)
            taken.append(one)
        return taken

    def add_passing(self, one: Passing) -> None:
        """Queue it; the oldest give way where there is no room."""
        self.passing.append(one)
        self.passing_bytes += len(one.payload)
        while len(self.passing) > PASSING_STANZAS or self.passing_bytes > PASSING_BYTES:
            self._drop()

    def drop_old(self, now: float) -> None:
        while self.passing and self.passing[0].at < now - PASSING_AGE:
            self._drop()

    def drop_passing(self) -> None:
        """The peer is away: nothing that passes waits for it."""
        while self.passing:
            self._drop()

    def settle(self, count: int) -> list[OutboxRow]:
        """Remove and return the first ``count`` rows."""
        gone = [self.rows.popleft() for _ in range(min(count, len(self.rows)))]
        for row in gone:
            self.window_bytes -= len(row.payload or b"")
        if gone:
            self.settled_id = gone[-1].id
            self.backlog = max(0, self.backlog - len(gone))
        return gone

    def forget_window(self) -> None:
        """Rows changed on disk: read them again from there."""
        self.rows.clear()
        self.window_bytes = 0
        self.complete = self.backlog == 0

    def _drop(self) -> None:
        one = self.passing.popleft()
        self.passing_bytes -= len(one.payload)
        if one.failed is not None:
            one.failed("remote-server-timeout")
