"""Many senders, one transaction.

What is queued on the loop without a pause in between lands in one transaction. There is no timer: what queued while
the last commit ran is the next one. Callbacks run on the loop, in the order of queueing, after the commit is durable;
whatever acknowledges something waits for them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from homeserver.counts import ROWS, SECONDS, Spread
from homeserver.domain.messages import Then
from homeserver.storage.batch import Also, Batch, CrashPoint, SqlFunction
from homeserver.storage.committers import Committer
from homeserver.storage.log_index import EVERYTHING, LogRow, Tail, View
from homeserver.storage.turns import Turns

log = structlog.get_logger(__name__)

_FILL_ROWS: Final = 2000
_FILL_SECONDS: Final = 1.0
_LAZY_SECONDS: Final = 1.0


class GroupCommit:
    """The queue of the message path. Every method is called on the loop and none waits.

    ``last_id`` is the highest id of the log. ``tail`` is None where entries are filled with their rows. The queue is
    ``full`` above ``max_rows`` rows or ``max_bytes`` of payload, counting those being written.
    """

    def __init__(
        self,
        committer: Committer,
        turns: Turns,
        tail: Tail | None,
        crash_point: CrashPoint,
        *,
        last_id: int = 0,
        max_rows: int = 20_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._committer = committer
        self._turns = turns
        self._tail = tail
        self._crash_point = crash_point
        self._last_id = last_id
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._open = Batch()
        self._running: Batch | None = None
        self._scheduled = False
        self._filled_last = False
        self._fill_failed = False
        self._closing: asyncio.Future[None] | None = None
        self._lazy: dict[int, int] = {}
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._fill_timer: asyncio.TimerHandle | None = None
        self._fill_due = False
        self._relief: list[Callable[[], None]] = []
        self.raised: dict[int, int] = {}
        """During callbacks: ids of this commit that had to be raised, old to new."""
        self.seconds = Spread(SECONDS)
        self.rows = Spread(ROWS)
        self.stored = 0
        """Messages committed since the start."""
        self.failures = 0
        """Commits that failed since the start."""
        self.failure: BaseException | None = None
        """Why the last transaction failed, None when it did not."""
        self.began: float | None = None
        """When the transaction under way began, by the loop's clock."""

    @property
    def last_id(self) -> int:
        """The highest id queued or stored."""
        return self._last_id

    def append(self, row: LogRow, then: Then | None = None) -> None:
        """Queue a message. Raises ValueError if its id is not above all before it."""
        if row[0] <= self._last_id:
            raise ValueError("ids of the log must grow")
        self._last_id = row[0]
        batch = self._open
        batch.rows.append(row)
        batch.size += len(row[9])
        if then is not None:
            batch.thens.append(then)
        if not self._scheduled:
            self._schedule()

    def also(self, fn: SqlFunction, *args: Any, then: Then | None = None) -> None:
        """Queue ``fn(connection, *args)`` for the same transaction, after the rows and in order.

        If it raises, only its own ``then`` gets the error, and the rest is committed without it.
        """
        batch = self._open
        batch.also.append(Also(fn, args, len(batch.thens) if then is not None else -1))
        if then is not None:
            batch.thens.append(then)
        self._schedule()

    def counter(self, stream: str, received: int) -> None:
        """Note how many stanzas of a resumable stream have been handled; the last value of a commit wins."""
        self._open.received[stream] = received
        if not self._scheduled:
            self._schedule()

    def position(self, stream: str, sent: int, position: int) -> None:
        """Note how many stanzas the client acknowledged, and the id of the last message among them."""
        self._open.sent[stream] = (sent, position)
        if not self._scheduled:
            self._schedule()

    def mark(self, stream: str, sent: int, position: int) -> None:
        """Note how many stanzas a client was sent, and the id of the last message among them; rides along."""
        self._open.marked[stream] = (sent, position)

    def settle(self, account: int, position: int, lazy: bool = False) -> None:
        """Raise the id up to which nothing waits for ``account``. A lazy one rides along or follows within a second."""
        target = self._lazy if lazy else self._open.settled
        if position > target.get(account, 0):
            target[account] = position
        if not lazy:
            self._schedule()
        elif self._lazy_timer is None and not self._scheduled:
            self._lazy_timer = self._loop.call_later(_LAZY_SECONDS, self._schedule)

    def enqueue(self, row: Sequence[Any]) -> None:
        """Queue a row for the outbox, a value per column of the table that the database does not fill itself."""
        self._open.outbox.append(row)
        if not self._scheduled:
            self._schedule()

    def follow(self, then: Then) -> None:
        """Call ``then`` after the callbacks of everything queued so far; at once if nothing is pending."""
        if self._open.has_work or self._open.thens:
            self._open.thens.append(then)
        elif self._running is not None:
            self._running.thens.append(then)
        else:
            then(None)

    def settling(self, account: int) -> int:
        """The highest position on its way to the store for ``account``, or 0."""
        running = self._running.settled.get(account, 0) if self._running is not None else 0
        return max(self._open.settled.get(account, 0), self._lazy.get(account, 0), running)

    def view(self, owner: int) -> View:
        """What a read of the owner's mailbox needs from memory; take it in the same step that starts the read."""
        settling = self.settling(owner)
        if self._tail is None:
            return EVERYTHING._replace(settling=settling)
        return self._tail.view(owner, settling)

    @property
    def full(self) -> bool:
        """Whether callers must stop reading from their peers until `when_relieved`."""
        rows, size = len(self._open.rows) + len(self._open.outbox), self._open.size
        if self._running is not None:
            rows += len(self._running.rows) + len(self._running.outbox)
            size += self._running.size
        return rows >= self._max_rows or size >= self._max_bytes

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Call once, when the queue is no longer full."""
        self._relief.append(callback)

    async def close(self) -> None:
        """Commit what is queued, lazy positions included, fill the entries, end the writer. Call once."""
        self._closing = self._loop.create_future()
        for timer in (self._lazy_timer, self._fill_timer):
            if timer is not None:
                timer.cancel()
        self._lazy_timer = self._fill_timer = None
        self._schedule()
        await self._closing
        await self._committer.close()

    # --- the machine: scheduled -> turn -> batch or fill -> callbacks -> scheduled again if there is more -----------

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turns.take_for_batch, self._start)

    def _start(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None
        batch, tail = self._open, self._tail
        lazy, self._lazy = self._lazy, {}
        for account, position in lazy.items():
            if position > batch.settled.get(account, 0):
                batch.settled[account] = position
        if tail is not None and self._wants_fill and not (self._filled_last and batch.has_work):
            self._filled_last = True
            self._fill_due = False
            self._running = Batch()
            through = tail.seal()
            self._committer.fill(through, lambda error: self._filled(through, error))
        elif batch.has_work:
            self._filled_last = False
            self._open, self._running = Batch(), batch
            self.began = self._loop.time()
            self._committer.write(batch, self._written)
        else:
            self._end_turn()

    @property
    def _wants_fill(self) -> bool:
        """Whether entries should be filled now: time or rows say so, or this is the end."""
        if self._tail is None or not self._tail.size or self._fill_failed:
            return False
        return self._fill_due or self._tail.size >= _FILL_ROWS or self._closing is not None

    def _written(self, error: BaseException | None) -> None:
        batch = self._running
        if batch is None:
            raise RuntimeError("a commit ended that was not under way")
        self._count(batch, error)
        if error is None:
            self._crash_point("before_callbacks")
            if self._tail is not None and batch.rows:
                self._tail.add(batch.placed)
                if self._fill_timer is None and self._closing is None:
                    self._fill_timer = self._loop.call_later(_FILL_SECONDS, self._fill_is_due)
        else:
            log.error("commit failed", rows=len(batch.rows), error=str(error).partition("\n")[0])
        self.raised = batch.raised
        failed = {also.callback: also.error for also in batch.also if also.error is not None}
        self._call(batch, error, failed)
        self._end_turn()

    def _count(self, batch: Batch, error: BaseException | None) -> None:
        self.failure = error
        if error is not None:
            self.failures += 1
            return
        rows = len(batch.rows)
        self.stored += rows
        self.rows.observe(rows)
        if self.began is not None:
            self.seconds.observe(self._loop.time() - self.began)

    def _call(self, batch: Batch, error: BaseException | None, failed: dict[int, BaseException]) -> None:
        # The list may grow while it is walked: what follows from inside a callback comes after the rest.
        for place, then in enumerate(batch.thens):
            try:
                then(error if error is not None else failed.get(place) if failed else None)
            except Exception:
                log.exception("callback after commit failed")

    def _filled(self, through: int, error: BaseException | None) -> None:
        running = self._running
        if self._tail is not None:
            if error is None:
                self._tail.drop(through)
            else:
                log.error("entries could not be filled", error=str(error).partition("\n")[0])
                self.failure = error
                self._fill_failed = True
                if self._closing is None and self._fill_timer is None:
                    self._fill_timer = self._loop.call_later(_FILL_SECONDS, self._fill_is_due)
        if running is not None:
            self._call(running, None, {})
        self._end_turn()

    def _fill_is_due(self) -> None:
        self._fill_timer = None
        self._fill_failed = False
        self._fill_due = True
        self._schedule()

    def _end_turn(self) -> None:
        self._running = None
        self.began = None
        self._scheduled = False
        self._turns.batch_done()
        if self._open.has_work or self._wants_fill:
            self._schedule()
        if self._closing is not None and not self._scheduled and not self._closing.done():
            self._closing.set_result(None)
        if self._relief and not self.full:
            relieved, self._relief = self._relief, []
            for callback in relieved:
                callback()
