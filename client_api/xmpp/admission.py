"""Logins get a slice of every turn of the loop, so that a crowd of them holds nobody up who is logged in (S-52).

Two things take turns: what a connection says until it has settled, and what goes on after each wait for the store. A
few of both pass unasked in every turn, so that a login that comes alone waits for nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Generator
from typing import Any, Final, Protocol

SLICE: Final = 0.002
"""Seconds of a turn of the loop; a step of a login takes a fifth of that."""
PASSES: Final = 4
"""Steps of a turn that are taken without waiting, and those that go on after the store has answered."""


class Stranger(Protocol):
    """A connection that has not settled and has something to say."""

    def admitted(self) -> None:
        """Take what was held."""


class Admission:
    """A queue of all connections of a face, served in the order they came."""

    def __init__(self) -> None:
        self._waiting: deque[Stranger] = deque()
        self._steps: deque[asyncio.Future[None]] = deque()
        self._passes = PASSES
        self._is_called = False

    def enter(self, stranger: Stranger) -> None:
        """`Stranger.admitted` is called when it is its turn, not before this returns."""
        self._waiting.append(stranger)
        self._call()

    def passes(self) -> bool:
        """Whether the caller may take its step at once: nobody waits, and few have done so in this turn."""
        if self._waiting or self._steps or not self._passes:
            return False
        self._passes -= 1
        self._call()
        return True

    def paced(self, work: Awaitable[None]) -> Awaitable[None]:
        """The same work, which takes a turn after everything it waits for."""
        return _Paced(self, work)

    def turn(self) -> asyncio.Future[None]:
        """Done when it is the caller's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._steps.append(turn)
        self._call()
        return turn

    def __len__(self) -> int:
        return len(self._waiting) + len(self._steps)

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Those who have begun go first, or all would be half done."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE
        waiting, steps = self._waiting, self._steps
        self._passes = PASSES
        try:
            while steps and self._passes:
                step = steps.popleft()
                if not step.done():
                    self._passes -= 1
                    step.set_result(None)
            while waiting and self._passes:
                waiting.popleft().admitted()
                if loop.time() >= until:
                    break
        finally:
            self._is_called = bool(waiting or steps)
            if self._is_called:
                loop.call_soon(self._turn)


class _Paced:
    """Passes on what the work waits for, and has the task wait for a turn before it begins and behind each wait."""

    __slots__ = ("_admission", "_work")

    def __init__(self, admission: Admission, work: Awaitable[None]) -> None:
        self._admission = admission
        self._work = work

    def __await__(self) -> Generator[Any, None, None]:
        admission, steps = self._admission, self._work.__await__()
        awaited: Any = None
        try:
            while True:
                try:
                    if awaited is not None:
                        yield awaited
                    if not admission.passes():
                        yield from admission.turn()
                except BaseException as error:  # noqa: BLE001 - the work decides what it makes of a cancellation, too
                    awaited = steps.throw(error)
                else:
                    awaited = next(steps)
        except StopIteration:
            return
