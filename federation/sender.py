"""Sends what the outbox holds.

**Lanes.** Each pair of a domain of ours and a peer's domain has a lane with two kinds of traffic. *Durable* rows are
on disk, numbered, and sent until the peer's signed answer covers them. *Passing* stanzas (presence, chat states,
queries) are in memory only, go along with the next batch, and are dropped when the batch fails or they grow old. In a
batch the durable rows come first and are applied first, so something passing may arrive later than a durable row that
was queued after it, never earlier than one that was queued before it.

**Order.** A lane has one worker and the worker has one batch under way, so nothing overtakes. While a batch is under
way the next one collects; there is no timer and no waiting for a batch to fill. The numbers of a batch are on disk
before it is sent, in the same transaction as the settling of the one before.

**Back-off.** A batch that was not accepted is sent again, with the same numbers, after a wait that doubles from
failure to failure, with jitter, up to a limit; the wait is stored, so a restart does not turn into a storm. Anything
that is heard from the peer, a transaction or its wake-up call, ends the wait at once. While a lane waits, passing
stanzas are refused at once, so that a query gets its error now and not after the back-off.

**Fairness.** A bounded number of lanes is served at a time; a lane that is never empty gives way after some batches.
"""

import asyncio
from typing import Final, Protocol

import structlog

from federation.policy import Limits, Policy
from federation.transport import Delivered, Misnumbered, Parcel, Receipt, Refused, Retry, TooLarge, Ways
from homeserver.counts import Tally
from homeserver.protocol.envelope import MAX_STANZAS
from homeserver.services.clock import Clock
from homeserver.services.lanes import Claim, Lane
from homeserver.services.outbox import Outbox

log = structlog.get_logger(__name__)

UNREACHABLE_AFTER: Final = 60.0
WAKE_WITHIN: Final = 30 * 86400.0
WAKE_AT_ONCE: Final = 20
BATCHES_PER_TURN: Final = 50
EXPIRE_EVERY: Final = 60.0


class PeerWatcher(Protocol):
    """Who wants to know that a peer is away; both with (our domain, the peer's domain)."""

    def peer_unreachable(self, origin: str, destination: str) -> None: ...
    def peer_returned(self, origin: str, destination: str) -> None: ...


class Sender:
    """Workers of all lanes; at most ``concurrency`` at a time."""

    def __init__(
        self, outbox: Outbox, ways: Ways, policy: Policy, limits: Limits, clock: Clock, concurrency: int = 32
    ) -> None:
        self._outbox = outbox
        self._ways = ways
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._watchers: list[PeerWatcher] = []
        self._workers: dict[Lane, asyncio.Task[None]] = {}
        self._timers: dict[Lane, asyncio.TimerHandle] = {}
        self._alarms: dict[Lane, asyncio.TimerHandle] = {}
        self._most: dict[Lane, int] = {}
        self._disputed: set[Lane] = set()
        self._background: list[asyncio.Task[None]] = []
        self._closing = False
        self.outcomes = Tally("accepted", "refused", "failed")
        """Requests to other servers."""

    def watch(self, watcher: PeerWatcher) -> None:
        """Tell ``watcher`` when peers go and come."""
        self._watchers.append(watcher)

    def start(self, wake: bool = True) -> None:
        """Begin to send, expire what is too old, and wake peers that were heard from in the last 30 days."""
        self._outbox.attend(self.ready)
        self._background.append(asyncio.create_task(self._expire()))
        if wake:
            self._background.append(asyncio.create_task(self._wake()))

    async def close(self) -> None:
        """Stop after the requests under way are cut; what they carried is sent again after the next start."""
        self._closing = True
        for timer in (*self._timers.values(), *self._alarms.values()):
            timer.cancel()
        tasks = [*self._workers.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self, lane: Lane) -> None:
        """Send what ``lane`` has, now or when its back-off ends. Does not wait."""
        if self._closing or lane in self._workers:
            return
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
        wait = lane.retry_at - self._clock.now()
        if wait > 0:
            self._timers[lane] = asyncio.get_running_loop().call_later(wait, self._due, lane)
            return
        task = self._workers[lane] = asyncio.create_task(self._work(lane))
        task.add_done_callback(lambda _: self._ended(lane))

    def heard(self, origin: str, destination: str) -> None:
        """The peer ``destination`` spoke to our domain ``origin``: end its back-off."""
        self._outbox.heard(origin, destination)
        lane = self._outbox.lane(origin, destination)
        if lane.failures and not lane.has_work:
            self._back(lane)

    def _due(self, lane: Lane) -> None:
        self._timers.pop(lane, None)
        self.ready(lane)

    def _ended(self, lane: Lane) -> None:
        self._workers.pop(lane, None)
        if lane.can_send:
            self.ready(lane)

    async def _work(self, lane: Lane) -> None:
        async with self._slots, lane.turn:
            try:
                for _ in range(BATCHES_PER_TURN):
                    if not await self._send_one(lane):
                        return
            except Exception:
                # A failure of our own (a full disk, a lost database) must not end the lane for ever.
                log.exception("sending failed", destination=lane.destination)
                self._wait(lane, "internal error", None)

    async def _send_one(self, lane: Lane) -> bool:
        """Send one batch; False when the lane is empty or has to wait."""
        most = min(self._limits.batch_stanzas, MAX_STANZAS)
        stanzas = self._most.get(lane, most)
        size = max(1, self._limits.batch_bytes * stanzas // most)
        if not self._policy.permits(lane.destination):
            await self._outbox.refuse_all(lane)
            self._wait(lane, "not allowed by policy", None)
            return False
        claim = await self._outbox.claim(lane, stanzas, size)
        if claim is None:
            return False
        try:
            receipt = await self._deliver(lane, claim)
        except Exception:
            fail_passing(claim)
            raise
        return await self._settle(lane, claim, receipt)

    async def _deliver(self, lane: Lane, claim: Claim) -> Receipt:
        transport = await self._ways.choose(lane.destination)
        if isinstance(transport, Retry):
            return transport
        numbering = lane.numbering
        return await transport.deliver(
            Parcel(lane.origin, lane.destination, numbering.epoch, numbering.previous_named, claim)
        )

    async def _settle(self, lane: Lane, claim: Claim, receipt: Receipt) -> bool:
        if not isinstance(receipt, Delivered):
            fail_passing(claim)
        kinds = {Delivered: "accepted", Refused: "refused"}
        self.outcomes.add(kinds.get(type(receipt), "failed"))
        match receipt:
            case Delivered(epoch, accepted, rejected):
                before = lane.numbering.settled
                if not await self._outbox.settle(lane, epoch, accepted, rejected):
                    return self._dispute(lane)
                if claim.rows and lane.numbering.settled == before:
                    self._wait(lane, "accepted nothing", None)
                    return False
                self._most.pop(lane, None)
                self._disputed.discard(lane)
                self._back(lane)
                return True
            case Misnumbered():
                await self._outbox.misnumbered(lane)
                return self._dispute(lane)
            case TooLarge() if len(claim.rows) > 1:
                self._most[lane] = max(1, len(claim.rows) // 2)
                return True
            case TooLarge():
                self._wait(lane, "a single stanza is too large for the peer", None)
            case Refused():
                await self._outbox.refuse_all(lane)
                self._wait(lane, "the peer's policy refuses this server", None)
            case Retry(reason, after):
                self._wait(lane, reason, after)
        return False

    def _dispute(self, lane: Lane) -> bool:
        """Numbers were put right: go on at once, but a peer that disputes them again has to wait."""
        if lane in self._disputed:
            self._disputed.discard(lane)
            self._wait(lane, "numbers do not agree", None)
            return False
        self._disputed.add(lane)
        return True

    def _wait(self, lane: Lane, reason: str, after: float | None) -> None:
        self._outbox.failed(lane, reason, after)
        log.info("destination waits", destination=lane.destination, reason=reason, failures=lane.failures)
        if not lane.unreachable and lane not in self._alarms and lane.waiting_since is not None:
            left = max(0.0, lane.waiting_since + UNREACHABLE_AFTER - self._clock.now())
            self._alarms[lane] = asyncio.get_running_loop().call_later(left, self._alarm, lane)

    def _alarm(self, lane: Lane) -> None:
        self._alarms.pop(lane, None)
        if lane.waiting_since is not None and not lane.unreachable:
            lane.unreachable = True
            log.warning("destination is unreachable", destination=lane.destination, reason=lane.last_error)
            for watcher in self._watchers:
                watcher.peer_unreachable(lane.origin, lane.destination)

    def _back(self, lane: Lane) -> None:
        self._outbox.recovered(lane)
        alarm = self._alarms.pop(lane, None)
        if alarm is not None:
            alarm.cancel()
        if lane.unreachable:
            lane.unreachable = False
            log.info("destination is back", destination=lane.destination)
            for watcher in self._watchers:
                watcher.peer_returned(lane.origin, lane.destination)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY)
            try:
                await self._outbox.expire()
            except Exception:
                log.exception("expiry failed")

    async def _wake(self) -> None:
        since = self._clock.now() - WAKE_WITHIN
        peers = [(lane.origin, lane.destination) for lane in self._outbox.lanes() if lane.heard_at > since]
        slots = asyncio.Semaphore(WAKE_AT_ONCE)

        async def one(origin: str, destination: str) -> None:
            async with slots:
                await self._wake_one(origin, destination)

        await asyncio.gather(*(one(origin, destination) for origin, destination in peers))

    async def _wake_one(self, origin: str, destination: str) -> None:
        if self._policy.permits(destination):
            await self._ways.wake(origin, destination)


def fail_passing(claim: Claim) -> None:
    """Tell whoever waits for an answer to a passing stanza that there will be none."""
    for one in claim.passing:
        if one.failed is not None:
            one.failed("remote-server-timeout")
