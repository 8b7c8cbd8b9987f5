"""Logins get a slice of every turn of the loop, so that a crowd of them holds nobody up who is logged in (S-52)."""

import asyncio
from collections import deque
from typing import Final, Protocol

SLICE: Final = 0.004
"""Seconds of a turn of the loop; a step of a login takes a tenth of that."""


class Stranger(Protocol):
    """A connection that has no session yet and has something to say."""

    def admitted(self) -> None:
        """Take what was held."""


class Admission:
    """A queue of all connections of a face, served in the order they came."""

    def __init__(self) -> None:
        self._waiting: deque[Stranger] = deque()
        self._is_called = False

    def enter(self, stranger: Stranger) -> None:
        """`Stranger.admitted` is called when it is its turn, not before this returns."""
        self._waiting.append(stranger)
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def __len__(self) -> int:
        return len(self._waiting)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE
        waiting = self._waiting
        try:
            while waiting:
                waiting.popleft().admitted()
                if loop.time() >= until:
                    break
        finally:
            self._is_called = bool(waiting)
            if waiting:
                loop.call_soon(self._turn)
