"""One process at a time writes messages to a SQLite store."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StoreInUse(RuntimeError):
    """Another process holds the store; ``pid`` is its id, or None if it did not write it down."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(f"{path} is in use by process {pid if pid is not None else '(unknown)'}")
        self.path = path
        self.pid = pid


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file beside the store at ``path``. The kernel lets go when the process ends, however it ends.

    Raises `StoreInUse`.
    """
    lock = path.with_name(path.name + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise StoreInUse(path, int(text) if text.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
