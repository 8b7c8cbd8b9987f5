"""Stream management's counters and the queue of what the peer has not acknowledged (XEP-0198 s4, s5).

`SentQueue` outlives its connection: a resumed stream takes it over. It is bounded; who owns it looks at `is_full`
after each `sent` and ends the session where it is (the mailbox keeps what matters).
"""

from collections import deque
from typing import Final, NamedTuple

WRAP: Final = 1 << 32
"""Counters are unsigned 32-bit on the wire (XEP-0198 s4)."""


class HandledCountTooHigh(Exception):
    """The peer acknowledges more than was sent: ``h`` against ``sent`` (XEP-0198 s4, both modulo 2**32)."""

    def __init__(self, h: int, sent: int) -> None:
        super().__init__(h, sent)
        self.h = h
        self.sent = sent


class SentItem(NamedTuple):
    """One stanza on its way: the archive id it has in the owner's mailbox (None: none), and its bytes."""

    mailbox_id: int | None
    data: bytes


class SentQueue:
    """Stanzas sent and not acknowledged, oldest first.

    ``acknowledged_count`` and ``sent_count`` are true counts (not modulo); the first may be given to restore a session
    from storage.
    """

    __slots__ = ("_items", "_size", "acknowledged_count", "max_bytes", "max_items")

    def __init__(self, max_items: int = 2000, max_bytes: int = 4 << 20, acknowledged_count: int = 0) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.acknowledged_count = acknowledged_count
        self._items: deque[SentItem] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def sent_count(self) -> int:
        """How many stanzas were sent since the session began."""
        return self.acknowledged_count + len(self._items)

    @property
    def size(self) -> int:
        """Bytes waiting."""
        return self._size

    @property
    def is_full(self) -> bool:
        """Whether a bound is passed."""
        return len(self._items) > self.max_items or self._size > self.max_bytes

    @property
    def is_half_full(self) -> bool:
        """Whether half of a bound is passed."""
        return 2 * len(self._items) > self.max_items or 2 * self._size > self.max_bytes

    def sent(self, item: SentItem) -> None:
        """Count and keep one stanza."""
        self._items.append(item)
        self._size += len(item.data)

    def acknowledged(self, h: int) -> list[SentItem]:
        """The peer handled everything up to ``h``; returns what this released, oldest first.

        Raises `HandledCountTooHigh`. A count that goes back by wrapping around 2**32 is understood; one that goes
        back otherwise is too high by the same arithmetic.
        """
        step = (h - self.acknowledged_count) % WRAP
        if step > len(self._items):
            raise HandledCountTooHigh(h, self.sent_count % WRAP)
        released = [self._items.popleft() for _ in range(step)]
        self._size -= sum(len(item.data) for item in released)
        self.acknowledged_count += step
        return released

    def unacknowledged(self) -> list[SentItem]:
        """What a resumed stream must send again, oldest first."""
        return list(self._items)
