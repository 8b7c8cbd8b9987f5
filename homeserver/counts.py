"""Plain numbers that objects keep of their own work; `homeserver/metrics.py` reads them when somebody asks.

Counting is an addition to an int and nothing else: the message path pays no more for it.
"""

from bisect import bisect_left
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
OTHER: Final = "other"


class Tally:
    """How often each of a fixed set of things happened. ``counts`` is by label."""

    __slots__ = ("counts",)

    def __init__(self, *labels: str) -> None:
        self.counts = dict.fromkeys(labels, 0)

    def add(self, label: str) -> None:
        """Count one. Raises KeyError for a label that was not declared: nobody outside can make their number grow."""
        self.counts[label] += 1

    def note(self, label: str) -> None:
        """Count one; what was not declared counts as ``other``, which must be."""
        self.counts[label if label in self.counts else OTHER] += 1


class Spread:
    """How observed values are spread over ``bounds``, with their sum.

    ``counts`` has one number per bound and one for what is above all of them.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a bound includes itself."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Bounds as text, each with the number of values up to it; the last one is ``+Inf``."""
        found: list[tuple[str, float]] = []
        sum_ = 0
        for bound, count in zip((*map(str, map(float, self.bounds)), "+Inf"), self.counts, strict=True):
            sum_ += count
            found.append((bound, sum_))
        return found
