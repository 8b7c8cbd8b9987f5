"""Durable work for other servers.

A stanza for another domain is queued here and nowhere else. `Outbox.enqueue` is for what must arrive: its row is
written in the transaction that stores the sender's copy, it gets a number when it is first put into a signed batch,
and it goes away when the peer's signed answer covers that number. `Outbox.pass_on` is for what is of use only now.
Whoever sends (`federation/sender.py`) attends the lanes; nothing here knows how.

A row that cannot be delivered within the lifetime comes back to its sender as an error stanza, in the transaction that
removes it. The condition tells the truth: ``remote-server-not-found`` if it was never in a request, so it was not
delivered; ``remote-server-timeout`` if it was, so it may have been.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import structlog

from homeserver.domain.federation import Numbering
from homeserver.services.clock import Clock
from homeserver.services.lanes import WINDOW_ROWS, Claim, Failed, Lane, Passing, QueueState
from homeserver.services.returns import FORBIDDEN, MAYBE_DELIVERED, UNREADABLE, Returns, errors_for, honest_condition
from homeserver.services.store import Store, resolving
from homeserver.storage import outbox as storage
from homeserver.storage.outbox import DestinationRow, OutboxRow

log = structlog.get_logger(__name__)

EXPIRY_PAGE: Final = 500
HEARD_RESOLUTION: Final = 3600.0
MAX_LIFETIME: Final = 28 * 86400.0
"""Peers remember ids for two days longer than this; a stanza that waits longer could be taken twice."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for peers, in seconds: life of a row, first and longest wait between two tries."""

    lifetime: float = 7 * 86400.0
    backoff_min: float = 1.0
    backoff_max: float = 3600.0


class Outbox:
    """All queues to other servers.

    ``next_id`` gives strictly growing row ids. ``attend`` must be called before anything is queued; its function is
    called, without waiting, whenever a lane has work that may be tried.
    """

    def __init__(
        self, store: Store, clock: Clock, next_id: Callable[[], int], returns: Returns, patience: Patience
    ) -> None:
        self.patience = patience
        self._store = store
        self._clock = clock
        self._next_id = next_id
        self._returns = returns
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._last_lane = 0
        self._others: Callable[[Lane], None] = lambda _: None
        self._attendants: dict[str, Callable[[Lane], None]] = {}
        self._jitter = Random()  # noqa: S311

    async def start(self) -> None:
        """Read what waits from before."""
        for row in await self._store.read(storage.destinations):
            self._lanes[row.origin, row.domain] = Lane(row)
            self._last_lane = max(self._last_lane, row.id)

    def attend(self, ready: Callable[[Lane], None], destination: str | None = None) -> None:
        """Name who sends, to one destination or to all that have nobody of their own; and tell them of what waits."""
        if destination is None:
            self._others = ready
        else:
            self._attendants[destination] = ready
        for lane in list(self._lanes.values()):
            if lane.has_work and (lane.destination == destination or destination is None):
                self._ready(lane)

    def _ready(self, lane: Lane) -> None:
        self._attendants.get(lane.destination, self._others)(lane)

    def lanes(self) -> list[Lane]:
        return list(self._lanes.values())

    def lane(self, origin: str, destination: str) -> Lane:
        """The queue from one of our domains to a peer's, made if it is new."""
        found = self._lanes.get((origin, destination))
        if found is None:
            self._last_lane += 1
            found = self._lanes[origin, destination] = Lane(
                DestinationRow(
                    id=self._last_lane, origin=origin, domain=destination, numbering=Numbering(secrets.token_hex(16)),
                    assigned_id=0, sent_id=0, failures=0, retry_at=0.0, waiting_since=None, last_error=None,
                    heard_at=0.0, backlog=0, newest=0,
                )
            )  # fmt: skip
            found.stored = False
        return found

    # --- queueing ---------------------------------------------------------------------------------------------------

    def enqueue(
        self, origin: str, destination: str, stanza_id: str | None, log_id: int | None, payload: bytes, sender: str
    ) -> None:
        """Queue a stanza that must arrive; its row joins the open batch of the group commit. Does not wait.

        ``payload`` is stored only where ``log_id`` is None; otherwise the log has it. ``sender`` is the full address
        that is told if it expires.
        """
        lane = self.lane(origin, destination)
        commit = self._store.commit
        if not lane.stored:
            lane.stored = True
            commit.also(storage.insert_destination, lane.id, origin, destination, lane.numbering.epoch)
        row = OutboxRow(
            lane.id,
            self._next_id(),
            self._clock.now(),
            sender,
            stanza_id,
            log_id,
            payload if log_id is None else None,
        )
        lane.newest = row.id
        commit.enqueue(row)

        def then(error: BaseException | None) -> None:
            if error is None:
                lane.entered(row, payload)
            else:
                lane.lost(row)
            self._ready(lane)

        commit.follow(then)

    def pass_on(self, origin: str, destination: str, payload: bytes, failed: Failed | None = None) -> None:
        """Queue a stanza that is of use only now: presence, a chat state, an IQ. Does not wait.

        ``failed`` is called with ``remote-server-timeout`` when it is dropped; give it for IQ requests. To a
        destination in back-off it is dropped at once.
        """
        lane = self.lane(origin, destination)
        now = self._clock.now()
        if lane.retry_at > now:
            if failed is not None:
                failed(MAYBE_DELIVERED)
            return
        lane.add_passing(Passing(payload, now, lane.newest, failed))
        self._ready(lane)

    # --- sending ----------------------------------------------------------------------------------------------------

    async def claim(self, lane: Lane, stanzas: int, size: int) -> Claim | None:
        """What the next request to ``lane`` carries, its numbers durable; None when nothing waits.

        The caller holds ``lane.turn``. What was settled before is stored in the same transaction.
        """
        if not lane.complete and len(lane.rows) < stanzas:
            lane.load(await self._store.read(storage.page, lane.id, lane.last_loaded(), WINDOW_ROWS))
        rows = lane.head(stanzas, size)
        passing = lane.take_passing(rows, size, self._clock.now())
        if not rows and not passing:
            if lane.complete:
                lane.backlog = 0
            if lane.unsaved:
                await self._save(lane)
            return None
        fresh = len(rows) - lane.numbering.in_doubt
        if fresh > 0:
            lane.numbering.assign(fresh)
            lane.assigned_id = lane.sent_id = rows[-1].id
            try:
                await self._save(lane)
            except Exception:
                lane.numbering.assigned -= fresh
                raise
        elif lane.unsaved:
            await self._save(lane)
        return Claim(lane.numbering.settled + 1, rows, passing)

    async def settle(self, lane: Lane, epoch: str, accepted: int, rejected: dict[int, str]) -> bool:
        """Take what a signed answer says the peer holds; False when a new epoch had to begin.

        What it settles is stored by the next `claim`.
        """
        first = lane.numbering.settled + 1
        count = lane.numbering.answered(epoch, accepted)
        if count is None:
            await self._begin_epoch(lane)
            return False
        gone = lane.settle(count)
        lane.unsaved = lane.unsaved or bool(gone)
        lost = [row for number, row in enumerate(gone, first) if number in rejected]
        if lost:
            log.error("peer rejected stanzas", destination=lane.destination, reasons=sorted(set(rejected.values())))
            for error in await errors_for(self._returns, lost, lane.destination, lambda _: UNREADABLE):
                self._returns.returned(error)
        return True

    async def misnumbered(self, lane: Lane) -> None:
        """The peer refused a batch for its numbers.

        A batch starts behind what is settled, so the peer misses rows that it answered for, or holds others under
        these numbers: one side was restored.
        """
        await self._begin_epoch(lane)

    async def refuse_all(self, lane: Lane) -> None:
        """The peer takes nothing from us: everything that waits goes back with ``forbidden``."""
        while rows := await self._store.read(storage.page, lane.id, 0, EXPIRY_PAGE):
            waiting = [row for row in rows if row.void is None]
            if not waiting:
                break
            await self._give_up(lane, waiting, "dropped", lambda _: FORBIDDEN)
        lane.drop_passing()

    def failed(self, lane: Lane, reason: str, retry_after: float | None = None) -> None:
        """A try did not succeed: wait longer than before."""
        now = self._clock.now()
        wait = min(self.patience.backoff_max, self.patience.backoff_min * 2.0 ** min(lane.failures, 40))
        wait *= 0.75 + 0.5 * self._jitter.random()
        lane.failures += 1
        lane.failed_at = now
        lane.retry_at = now + max(wait, min(retry_after or 0.0, self.patience.backoff_max))
        lane.last_error = reason
        if lane.waiting_since is None:
            lane.waiting_since = now
        lane.drop_passing()
        self._save_wait(lane)

    def recovered(self, lane: Lane) -> None:
        """A try succeeded."""
        lane.heard_at, before = self._clock.now(), lane.heard_at
        if lane.failures or lane.waiting_since is not None or lane.heard_at - before > HEARD_RESOLUTION:
            lane.failures, lane.retry_at, lane.waiting_since, lane.last_error = 0, 0.0, None, None
            self._save_wait(lane)

    def heard(self, origin: str, destination: str) -> None:
        """The peer spoke to us: it is there, so try it at once."""
        lane = self.lane(origin, destination)
        if not lane.stored:
            lane.stored = True
            self._store.commit.also(storage.insert_destination, lane.id, origin, destination, lane.numbering.epoch)
        waited = lane.retry_at > self._clock.now()
        if self._clock.now() - lane.heard_at > HEARD_RESOLUTION or waited:
            lane.heard_at = self._clock.now()
            # A peer that talks to us all the time but cannot be reached must not make us knock all the time.
            lane.retry_at = lane.failed_at + min(1.0, self.patience.backoff_min)
            self._save_wait(lane)
        if waited:
            self._ready(lane)

    # --- giving up --------------------------------------------------------------------------------------------------

    async def expire(self) -> int:
        """Return what waited longer than the lifetime to its senders; call it now and then. Returns how many."""
        cutoff = self._clock.now() - min(self.patience.lifetime, MAX_LIFETIME)
        count = 0
        for lane in self.lanes():
            if not lane.backlog or (lane.rows and lane.rows[0].created >= cutoff):
                continue
            async with lane.turn:
                while True:
                    rows = await self._store.read(storage.page, lane.id, lane.settled_id, EXPIRY_PAGE)
                    overdue = [row for row in rows if row.created < cutoff and row.void is None]
                    if not overdue:
                        break
                    await self._give_up(lane, overdue, "expired", honest_condition(lane.sent_id))
                    count += len(overdue)
        self._tidy()
        if count:
            log.warning("messages expired", count=count)
        return count

    async def drop(self, destination: str, ids: Sequence[int] | None = None) -> int:
        """Give up rows for ``destination``, all or those named, and tell their senders. Returns how many."""
        count = 0
        for lane in self._of(destination):
            async with lane.turn:
                after = lane.settled_id
                while rows := await self._store.read(storage.page, lane.id, after, EXPIRY_PAGE):
                    after = rows[-1].id
                    chosen = [row for row in rows if row.void is None and (ids is None or row.id in ids)]
                    if chosen:
                        await self._give_up(lane, chosen, "dropped", honest_condition(lane.sent_id))
                        count += len(chosen)
        return count

    def retry(self, destination: str) -> bool:
        """Try ``destination`` now. False when it is not known."""
        lanes = self._of(destination)
        for lane in lanes:
            lane.retry_at = 0.0
            self._ready(lane)
        return bool(lanes)

    def list(self) -> "Sequence[QueueState]":
        """Every destination where something waits or failed."""
        return [lane.state() for lane in self._lanes.values() if lane.backlog or lane.failures]

    def waiting_by_state(self) -> dict[str, int]:
        """How many rows wait: ``ready`` to be sent or under way, ``waiting`` for the next try, at ``unreachable`` peers."""
        found = {"ready": 0, "waiting": 0, "unreachable": 0}
        now = self._clock.now()
        for lane in self._lanes.values():
            found["unreachable" if lane.unreachable else "waiting" if lane.retry_at > now else "ready"] += lane.backlog
        return found

    async def waiting(self, destination: str, after: int, limit: int) -> "Sequence[OutboxRow]":
        """Rows that wait for ``destination``, oldest first."""
        found: list[OutboxRow] = []
        for lane in self._of(destination):
            found += await self._store.read(storage.page, lane.id, max(after, lane.settled_id), limit)
        return found[:limit]

    def _tidy(self) -> None:
        """Forget lanes that never had a durable row and have nothing to do."""
        now = self._clock.now()
        for key, lane in list(self._lanes.items()):
            if not lane.stored and not lane.passing and not lane.turn.locked() and lane.retry_at <= now:
                del self._lanes[key]

    def _of(self, destination: str) -> "Sequence[Lane]":
        return [lane for lane in self._lanes.values() if lane.destination == destination]

    async def _give_up(
        self, lane: Lane, rows: "Sequence[OutboxRow]", reason: str, condition: Callable[[OutboxRow], str]
    ) -> None:
        errors = await errors_for(self._returns, rows, lane.destination, condition)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ids = [row.id for row in rows]
        self._store.commit.also(storage.remove, lane.id, ids, lane.assigned_id, reason, then=resolving(done))
        for error in errors:
            self._returns.returned(error)
        await done
        lane.backlog = max(0, lane.backlog - sum(1 for row in ids if row > lane.assigned_id))
        lane.forget_window()

    # --- storing ----------------------------------------------------------------------------------------------------

    async def _begin_epoch(self, lane: Lane) -> None:
        log.error("numbers disagree: one side was restored; a new epoch begins", destination=lane.destination)
        if lane.unsaved:
            await self._save(lane)
        numbering = replace(lane.numbering)
        numbering.renumber(secrets.token_hex(16), 0)
        waiting = await self._store.write(storage.begin_epoch, lane.id, numbering)
        numbering.named_until = waiting
        lane.numbering = numbering
        lane.assigned_id = 0
        lane.backlog = waiting
        lane.forget_window()

    async def _save(self, lane: Lane) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        settled = lane.settled_id if lane.unsaved else None
        self._store.commit.also(
            storage.save_progress,
            lane.id,
            replace(lane.numbering),
            lane.assigned_id,
            lane.sent_id,
            settled,
            then=resolving(done),
        )
        await done
        lane.unsaved = lane.unsaved and lane.settled_id != settled

    def _save_wait(self, lane: Lane) -> None:
        if lane.stored:
            self._store.commit.also(
                storage.save_wait,
                lane.id,
                lane.failures,
                lane.retry_at,
                lane.waiting_since,
                lane.last_error,
                lane.heard_at,
            )
