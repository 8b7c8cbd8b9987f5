"""Numbers of the durable lane: how two servers agree on what has arrived.

Two small state machines without I/O. `Numbering` is the origin's: it numbers rows when they are first put into a
signed batch and forgets them when the peer's signed answer covers them. `Reception` is the receiver's: it says what of
a batch is new. Whoever holds one stores its fields in the transaction that stores the rows or stanzas they describe;
each restart, repeat, lost answer or restored backup then ends in one of the few cases below.

A row that is settled otherwise after it was numbered (expired, dropped) keeps its number as a void, so numbers have no
gaps. When the two sides cannot both be right, one of them was restored from a backup: the origin makes a new epoch,
numbers its unsettled rows from 1, and names the epoch before until they are settled; the receiver then recognises what
it has already by (origin, stanza id).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

REMEMBERED: Final = 1000
"""Of how many of the last numbers a receiver remembers the ids; no batch is larger."""


@dataclass(slots=True)
class Numbering:
    """What an origin knows of one destination.

    Numbers up to ``settled`` are answered for, numbers up to ``assigned`` are given to rows. ``previous`` is the epoch
    before this one, named in batches until ``settled`` reaches ``named_until``.
    """

    epoch: str
    settled: int = 0
    assigned: int = 0
    previous: str | None = None
    named_until: int = 0

    def assign(self, count: int) -> None:
        """Give the next ``count`` numbers to rows."""
        self.assigned += count

    @property
    def in_doubt(self) -> int:
        """How many rows have a number and no answer."""
        return self.assigned - self.settled

    @property
    def previous_named(self) -> str | None:
        """The epoch to name as ``previous_epoch`` in the next batch."""
        return self.previous if self.settled < self.named_until else None

    def answered(self, epoch: str, accepted: int) -> int | None:
        """Take what the peer says it holds; return how many rows are settled by it, None when the two sides disagree.

        None means: call `renumber`.
        """
        if epoch != self.epoch:
            return None if self.assigned else 0
        if not self.settled <= accepted <= self.assigned:
            return None
        count = accepted - self.settled
        self.settled = accepted
        return count

    def renumber(self, epoch: str, unsettled: int) -> None:
        """Begin a new epoch with ``unsettled`` rows waiting, none of them numbered yet."""
        self.previous, self.epoch = self.epoch, epoch
        self.settled = self.assigned = 0
        self.named_until = unsettled


class Verdict(Enum):
    """What a receiver makes of a batch."""

    TAKE = "take"
    GAP = "gap"
    RESTORED = "restored"


@dataclass(slots=True)
class Reception:
    """What a receiver knows of one (origin, destination).

    ``ids`` are those of the last numbers, oldest first, "" for a void. ``rejected`` maps numbers to the reason why
    their stanza could not be processed. ``retired`` are epochs that ended here: they never come back.
    """

    epoch: str | None = None
    highest: int = 0
    ids: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    rejected: dict[int, str] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)

    def examine(self, epoch: str, entries: Sequence[tuple[int, str]]) -> tuple[Verdict, int]:
        """Judge the ``(number, id)`` of a batch, contiguous, id "" for a void.

        A void for a number that came as a stanza is fine, the reverse is not. Returns the verdict and how many entries at the start are known already (for TAKE). Changes nothing.
        """
        if not entries:
            return Verdict.TAKE, 0
        first = entries[0][0]
        if epoch != self.epoch:
            if epoch in self.retired:
                return Verdict.RESTORED, 0
            return (Verdict.TAKE, 0) if first == 1 else (Verdict.GAP, 0)
        if first > self.highest + 1:
            return Verdict.GAP, 0
        known = min(self.highest + 1 - first, len(entries))
        oldest = self.highest - len(self.ids) + 1
        for number, name in entries[:known]:
            if number < oldest:
                return Verdict.RESTORED, 0
            if name and self.ids[number - oldest] != name:
                return Verdict.RESTORED, 0
        return Verdict.TAKE, known

    def expected(self, epoch: str) -> int:
        """The number that should have come first in a batch of this epoch."""
        return self.highest + 1 if epoch == self.epoch else 1

    def take(self, epoch: str, entries: Iterable[tuple[int, str]], rejected: dict[int, str]) -> None:
        """Advance over new entries, after they are durable."""
        if epoch != self.epoch:
            if self.epoch is not None:
                self.retired.add(self.epoch)
            self.epoch = epoch
            self.highest = 0
            self.ids.clear()
            self.rejected = {}
        for number, name in entries:
            self.highest = number
            self.ids.append(name)
        self.rejected.update(rejected)

    def still_rejected(self, first: int | None) -> dict[int, str]:
        """The rejections to repeat in the answer to a batch that starts at ``first``."""
        if first is None:
            return self.rejected
        return {number: why for number, why in self.rejected.items() if number >= first}
