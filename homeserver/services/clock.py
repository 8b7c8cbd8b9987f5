"""Time as an argument."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time in seconds and microseconds since the epoch; monotonic seconds for intervals."""

    def now(self) -> float: ...
    def microseconds(self) -> int: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.time()

    def microseconds(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()
