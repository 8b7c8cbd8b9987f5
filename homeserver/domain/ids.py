"""Time-ordered integer ids: archive id, mailbox position and log key in one number."""

from collections.abc import Callable
from typing import Final

MAX_ID: Final = 2**53 - 1
"""Ids are JSON integers; above this JavaScript loses digits (RFC 8259 s6)."""


class IdSource:
    """Gives strictly growing ids: microseconds since the epoch, or one more than the last.

    The id never lags behind the clock and never goes back, also when the clock does; the real time of a message is
    kept apart. ``last`` is the highest id the store already holds. Several nodes share one store by taking ids from
    different residues: node k of n uses ``stride=n, offset=k``.
    """

    __slots__ = ("_last", "_microseconds", "_offset", "_stride")

    def __init__(self, microseconds: Callable[[], int], last: int = 0, stride: int = 1, offset: int = 0) -> None:
        self._microseconds = microseconds
        self._last = last
        self._stride = stride
        self._offset = offset

    def next(self) -> int:
        """The next id; microseconds unless the clock stood still or went back."""
        found = max(self._microseconds(), self._last + 1)
        if self._stride > 1:
            found += (self._offset - found) % self._stride
        self._last = found
        return found
