"""Engines for SQLite, set up the one way Parley uses them."""

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.pool import NullPool

BUSY_SECONDS: Final = 10.0
"""How long a writer waits for another process (the command line) before its transaction fails."""


def create_private(path: Path) -> None:
    """Create the SQLite file with mode 0600 before SQLite does; its -wal and -shm files take the mode from it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)


def sqlite_engine(path: Path, synchronous: str, read_only: bool) -> Engine:
    """A sync engine; every user keeps its own connection. Writers begin IMMEDIATE, readers DEFERRED."""
    url = make_url("sqlite+pysqlite://").set(database=str(path))
    engine = create_engine(url, poolclass=NullPool, connect_args={"check_same_thread": False, "cached_statements": 512})
    prepare(engine, synchronous, read_only)
    return engine


def prepare(engine: Engine, synchronous: str, read_only: bool) -> None:
    """Set every connection of an engine up, and begin its transactions by hand."""
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        # The driver must not open transactions by its own guess: they are begun below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'NORMAL' if synchronous == 'normal' else 'FULL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)
