"""Contents of files, for the event loop: everything that blocks runs in threads, and what belongs to one upload in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from homeserver.storage.blobs import Blobs, Incoming

T = TypeVar("T")

THREADS: Final = 4


class Writing:
    """One content that is coming in: at most one portion of it is being written while the next one is gathered."""

    def __init__(self, incoming: Incoming, contents: Contents) -> None:
        self._incoming = incoming
        self._contents = contents
        self._last: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return self._incoming.size

    async def write(self, parts: Sequence[bytes]) -> None:
        """Append; returns when what came before is written. Raises OSError of the portion before."""
        if self._last is not None:
            await self._last
        self._last = self._contents.run(self._incoming.write, parts)

    async def settle(self) -> None:
        """Wait until everything is written. Raises OSError."""
        if self._last is not None:
            await self._last

    async def finish(self) -> bytes:
        """Make it durable and put it in its place; its SHA-256. Raises OSError."""
        await self.settle()
        return await self._contents.run(self._incoming.finish)

    def discard(self) -> None:
        """Remove what was written, unless it is finished."""
        if self._last is not None and not self._last.done():
            self._last.add_done_callback(_looked_at)
        self._contents.later(self._incoming.discard)


class Contents:
    """The contents on the disk."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="files")

    def run(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Do something in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def later(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do something in a thread; nobody waits for it."""
        self._threads.submit(work, *arguments)

    def close(self) -> None:
        """End the threads when they have done what there is."""
        self._threads.shutdown(wait=True)

    async def prepare(self) -> None:
        """Make the folders; remove what a crash left of uploads."""
        await self.run(self._blobs.prepare)

    async def begin(self, id_: str) -> Writing:
        """Begin to write a content."""
        opening = self.run(self._blobs.begin, id_)
        try:
            return Writing(await asyncio.shield(opening), self)
        except asyncio.CancelledError:
            opening.add_done_callback(_give_up)
            raise

    async def free(self) -> int:
        """Bytes of the disk that may still be written."""
        return await self.run(self._blobs.free)

    async def remove(self, ids: Sequence[str]) -> None:
        """Remove contents."""
        await self.run(self._blobs.remove, ids)

    async def open(self, id_: str) -> int | None:
        """A descriptor for `read`, to be given to `shut`; None where there is no such content."""
        opening = self.run(self._blobs.open, id_)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._shut_opened)
            raise

    async def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; less than one only at the end."""
        return await self.run(os.pread, descriptor, size, offset)

    def shut(self, descriptor: int) -> None:
        """Close a descriptor."""
        self.later(os.close, descriptor)

    async def older(self, than: float) -> list[list[str]]:
        """Ids of contents last written before a moment, in portions."""
        return await self.run(lambda: [portion for portion in self._blobs.older(than) if portion])

    def _shut_opened(self, opening: asyncio.Future[int | None]) -> None:
        if not opening.cancelled() and opening.exception() is None and (found := opening.result()) is not None:
            self.shut(found)


def _give_up(opening: asyncio.Future[Incoming]) -> None:
    """The uploader went away while the file was being opened."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().discard()


def _looked_at(writing: asyncio.Future[None]) -> None:
    """A failure of what was given up is nobody's."""
    if not writing.cancelled():
        writing.exception()
