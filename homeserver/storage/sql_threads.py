"""Threads that use SQLite: a read costs microseconds there, not the third of a millisecond of an async driver."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine

Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]"]


class SqlThreads:
    """A few threads called ``name``, each with its own connection; every job is one transaction."""

    def __init__(self, engine: Engine, count: int, name: str) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{place}") for place in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> "asyncio.Future[Any]":
        """Run ``fn(connection, *args)`` in a thread, and commit. A cancelled future does not stop the job."""
        found = self._loop.create_future()
        self._jobs.put((fn, args, found))
        return found

    async def close(self) -> None:
        """End after the jobs already submitted."""
        for _ in self._threads:
            self._jobs.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while (job := self._jobs.get()) is not None:
            fn, args, found = job
            try:
                connection = connection or self._engine.connect()
                with connection.begin():
                    result = fn(connection, *args)
            except Exception as error:  # noqa: BLE001 - raised where the result is awaited
                self._loop.call_soon_threadsafe(_fail, found, error)
            else:
                self._loop.call_soon_threadsafe(_resolve, found, result)
        if connection is not None:
            connection.close()


def _resolve(found: "asyncio.Future[Any]", result: object) -> None:
    if not found.done():
        found.set_result(result)


def _fail(found: "asyncio.Future[Any]", error: BaseException) -> None:
    if not found.done():
        found.set_exception(error)
