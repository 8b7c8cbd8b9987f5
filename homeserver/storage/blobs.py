"""Contents of uploaded files, on the disk.

A content is written below ``incoming``, synced, and moved to its place in one step, so what stands in a place is whole
(rename(2), fsync(2)). A content that no row of the table names is garbage of a crash.

Everything here blocks; callers use threads.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ID: Final = re.compile(r"[0-9a-f]{32}")
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_SYNC_EVERY: Final = 32 * 1024**2
"""Bytes after which what was written is pushed to the disk, so that the end of a large file does not wait for all of it."""


class Incoming:
    """One content that is being written. Not finished, it leaves nothing behind."""

    def __init__(self, path: Path, place: Path) -> None:
        self._path = path
        self._place = place
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        self._unsynced = 0
        self.size = 0

    def write(self, parts: Sequence[bytes]) -> None:
        """Append. Raises OSError, for example where there is no room, and ValueError after `discard`."""
        with self._lock:
            if self._file < 0:
                raise ValueError("the content was given up")
            for part in parts:
                self._hash.update(part)
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                self.size += len(part)
                self._unsynced += len(part)
            if self._unsynced >= _SYNC_EVERY:
                os.fdatasync(self._file)
                self._unsynced = 0

    def finish(self) -> bytes:
        """Put the content in its place, durably; its SHA-256."""
        with self._lock:
            if self._file < 0:
                raise ValueError("the content was given up")
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            if not self._place.parent.is_dir():
                self._place.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self._place.parent.parent)
            self._path.rename(self._place)
            _sync_folder(self._place.parent)
            return self._hash.digest()

    def discard(self) -> None:
        """Give up what is not finished."""
        with self._lock:
            if self._file < 0:
                return
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)


class Blobs:
    """The contents below one folder, by id (32 hexadecimal digits)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"

    def prepare(self) -> None:
        """Make the folders; remove what uploads left that a crash cut off."""
        for path in (self._folder, self._incoming):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(self._incoming):
            (self._incoming / name).unlink()

    def begin(self, id_: str) -> Incoming:
        """Begin to write a content."""
        return Incoming(self._incoming / f"{id_}.{secrets.token_hex(4)}", self._place(id_))

    def open(self, id_: str) -> int | None:
        """A descriptor to read a content, or None where there is none."""
        try:
            return os.open(self._place(id_), os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return None

    def remove(self, ids: Sequence[str]) -> None:
        """Remove contents; those that are gone do not matter."""
        for id_ in ids:
            self._place(id_).unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes of the disk that the server may still write."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def older(self, than: float) -> Iterator[list[str]]:
        """Ids of contents last written before a moment (seconds since the epoch), in portions."""
        for shard in sorted(os.listdir(self._folder)):
            if _SHARD.fullmatch(shard):
                with os.scandir(self._folder / shard) as entries:
                    yield [one.name for one in entries if ID.fullmatch(one.name) and _modified(one) < than]

    def _place(self, id_: str) -> Path:
        if ID.fullmatch(id_) is None:
            raise ValueError("not the id of a content")
        return self._folder / id_[:2] / id_


def _modified(entry: os.DirEntry[str]) -> float:
    return entry.stat(follow_symlinks=False).st_mtime


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
