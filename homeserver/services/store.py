"""The part of the database that a service needs which queues work into the open batch."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from homeserver.domain.messages import Then


class Commit(Protocol):
    """The open batch of the group commit; see ``homeserver/storage/group_commit.py``."""

    def also(self, function: Callable[..., object], /, *arguments: Any, then: Then | None = None) -> None: ...
    def enqueue(self, row: Any, /) -> None: ...
    def follow(self, then: Then, /) -> None: ...


class Store(Protocol):
    """What is needed of the database."""

    @property
    def commit(self) -> Commit: ...
    def read(self, function: Callable[..., Any], /, *arguments: Any) -> Awaitable[Any]: ...
    def write(self, function: Callable[..., Any], /, *arguments: Any) -> Awaitable[Any]: ...


def resolving(done: "asyncio.Future[None]") -> Then:
    """A callback for the group commit that settles ``done``."""

    def then(error: BaseException | None, /) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    return then
