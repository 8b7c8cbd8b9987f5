"""Time that moves when a test says so."""


class FakeClock:
    """Wall and monotonic time in one; starts on a fixed day."""

    def __init__(self, start: float = 1_763_600_000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def microseconds(self) -> int:
        return int(self.time * 1e6)

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
