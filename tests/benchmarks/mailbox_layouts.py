"""What a message costs in three layouts of the archive (docs/decisions/0001-mailbox-layout.md).

    python -m tests.benchmarks.mailbox_layouts [--messages 40000] [--postgres]

a: a message row and two rows per owner with a sequence of the mailbox; b: one row and two live indexes; c: a log
without index, entries filled in bulk every 2000 rows. SQLite commits with FULL, PostgreSQL with synchronous_commit on.
Prints CPU microseconds and bytes written per message, and the cost of a page of at most 50, per entry, at 10 000 and 200 000 messages.
"""

import argparse
import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from tests.kit.postgres import Cluster, cluster

PAYLOAD = b"<message from='a@example.org/x' to='b@example.org' type='chat'><body>" + b"x" * 280 + b"</body></message>"
USERS = 2000
Message = tuple[int, int, int, bytes]
FILL = 2000

TABLES = {
    "a": """CREATE TABLE message (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, payload BLOB);
        CREATE TABLE box (owner INTEGER, seq INTEGER, id INTEGER, peer INTEGER, PRIMARY KEY (owner, seq)){};
        CREATE TABLE mailbox (owner INTEGER PRIMARY KEY, next INTEGER);""",
    "b": """CREATE TABLE message (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, payload BLOB);
        CREATE INDEX by_a ON message (a, id); CREATE INDEX by_b ON message (b, id);""",
    "c": """CREATE TABLE message (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, payload BLOB);
        CREATE TABLE entry (owner INTEGER, id INTEGER, peer INTEGER, PRIMARY KEY (owner, id)){};
        CREATE INDEX by_peer ON entry (owner, peer, id);""",
}
PAGES = {
    "a": "SELECT m.id, m.payload FROM box x JOIN message m ON m.id = x.id WHERE x.owner = {o} ORDER BY x.seq DESC LIMIT 50",
    "b": """SELECT id, payload FROM (SELECT * FROM (SELECT id, payload FROM message WHERE a = {o} ORDER BY id DESC LIMIT 50) AS l
        UNION ALL SELECT * FROM (SELECT id, payload FROM message WHERE b = {o} ORDER BY id DESC LIMIT 50) AS r) AS u
        ORDER BY id DESC LIMIT 50""",
    "c": "SELECT m.id, m.payload FROM entry e JOIN message m ON m.id = e.id WHERE e.owner = {o} ORDER BY e.id DESC LIMIT 50",
}
FILLING = """INSERT INTO entry SELECT owner, id, peer FROM (
    SELECT a AS owner, id, b AS peer FROM message WHERE id > {low} AND id <= {high}
    UNION ALL SELECT b, id, a FROM message WHERE id > {low} AND id <= {high}) AS fresh ORDER BY owner, id"""


def messages(count: int, start: int) -> list[Message]:
    chosen = random.Random(start)
    return [(start + number, *chosen.sample(range(USERS), 2), PAYLOAD) for number in range(1, count + 1)]


class Sqlite:
    """One layout in one SQLite file."""

    def __init__(self, layout: str, folder: Path) -> None:
        self.layout = layout
        self.db = sqlite3.connect(folder / f"{layout}.db", isolation_level=None, cached_statements=256)
        self.db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        self.db.executescript(TABLES[layout].format(" WITHOUT ROWID"))
        self.next = dict.fromkeys(range(USERS), 0)
        self.filled = self.last = 0

    def commit(self, batch: list[Message]) -> None:
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        self._many("message", 4, batch)
        if self.layout == "a":
            box = []
            for id_, one, other, _ in batch:
                for owner, peer in ((one, other), (other, one)):
                    self.next[owner] += 1
                    box.append((owner, self.next[owner], id_, peer))
            self._many("box", 4, box)
            self._many("mailbox", 2, list({row[0]: (row[0], row[1]) for row in box}.values()))
        db.execute("COMMIT")
        self.last = batch[-1][0]
        if self.layout == "c" and self.last - self.filled >= FILL:
            db.execute("BEGIN IMMEDIATE")
            db.execute(FILLING.format(low=self.filled, high=self.last))
            db.execute("COMMIT")
            self.filled = self.last

    def _many(self, table: str, width: int, rows: list[Any]) -> None:
        one = "(" + ",".join("?" * width) + ")"
        values = [value for row in rows for value in row]
        self.db.execute(f"INSERT OR REPLACE INTO {table} VALUES {','.join([one] * len(rows))}", values)

    def page(self, owner: int) -> int:
        return len(self.db.execute(PAGES[self.layout].format(o=owner)).fetchall())


def written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def pages(read: Callable[[int], int]) -> float:
    started = time.process_time()
    found = sum(read(owner) for owner in range(400))
    return (time.process_time() - started) / found * 1e6


def run_sqlite(total: int) -> None:
    print("SQLite FULL: layout, batch, CPU us/message, bytes/message")
    with tempfile.TemporaryDirectory() as name:
        for layout in "abc":
            store = Sqlite(layout, Path(name))
            store.commit(messages(10_000, 0))
            small = pages(store.page)
            for size, count in ((1, total // 40), (10, total // 4), (100, total)):
                work = messages(count, store.last)
                bytes_before, started = written(), time.process_time()
                for start in range(0, count, size):
                    store.commit(work[start : start + size])
                spent = (time.process_time() - started) / count * 1e6
                print(f"  {layout} {size:4d} {spent:8.1f} {(written() - bytes_before) / count:9.0f}")
            while store.last < 200_000:
                store.commit(messages(2000, store.last))
            print(f"  {layout} page, us per entry: {small:.1f} at 10 000 messages, {pages(store.page):.1f} at 200 000")


def backend_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run_postgres(server: Cluster, total: int) -> None:
    print("PostgreSQL: layout, batch, client CPU us/message, server CPU us/message, WAL bytes/message")
    for layout in "abc":
        db = await asyncpg.connect(server.url(f"layout_{layout}"))
        columns = TABLES[layout].format("").replace("INTEGER", "BIGINT").replace("BLOB", "BYTEA")
        await db.execute(columns)
        pid = await db.fetchval("SELECT pg_backend_pid()")
        await commit_postgres(db, layout, messages(10_000, 0))
        small = await postgres_page(db, layout, pid)
        last = 10_000
        for size, count in ((1, total // 40), (10, total // 4), (100, total)):
            work = messages(count, last)
            last += count
            wal = await db.fetchval("SELECT pg_current_wal_insert_lsn()")
            started, server_started = time.process_time(), backend_cpu(pid)
            for start in range(0, count, size):
                await commit_postgres(db, layout, work[start : start + size])
            spent = (time.process_time() - started) / count * 1e6
            served = (backend_cpu(pid) - server_started) / count * 1e6
            grown = await db.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", wal)
            print(f"  {layout} {size:4d} {spent:8.1f} {served:8.1f} {float(grown) / count:9.0f}")
        while last < 200_000:
            await commit_postgres(db, layout, messages(10_000, last))
            last += 10_000
        await db.execute("ANALYZE")
        large = await postgres_page(db, layout, pid)
        print(f"  {layout} page, us per entry: {small:.1f} at 10 000 messages, {large:.1f} at 200 000")
        await db.close()


async def commit_postgres(db: Any, layout: str, batch: list[Message]) -> None:
    ids, one, other, payload = (list(column) for column in zip(*batch, strict=True))
    rows = "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS v(id, a, b, payload)"
    async with db.transaction():
        await db.execute(f"INSERT INTO message {rows}", ids, one, other, payload)
        if layout == "a":
            # The row locks of the mailboxes give the numbers, as several nodes would need it.
            await db.execute(
                "WITH v AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v(id, a, b)),"
                " e AS (SELECT a AS owner, id, b AS peer FROM v UNION ALL SELECT b, id, a FROM v),"
                " m AS (INSERT INTO mailbox SELECT owner, count(*) FROM e GROUP BY owner ORDER BY owner"
                "   ON CONFLICT (owner) DO UPDATE SET next = mailbox.next + excluded.next RETURNING owner, next)"
                " INSERT INTO box SELECT e.owner, m.next + 1 - row_number() OVER (PARTITION BY e.owner ORDER BY e.id DESC),"
                " e.id, e.peer FROM e JOIN m ON m.owner = e.owner",
                ids, one, other,
            )  # fmt: skip
        elif layout == "c":
            await db.execute(
                "WITH v AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS v(id, a, b))"
                " INSERT INTO entry SELECT a, id, b FROM v UNION ALL SELECT b, id, a FROM v",
                ids, one, other,
            )  # fmt: skip


async def postgres_page(db: Any, layout: str, pid: int) -> float:
    started, served = time.process_time(), backend_cpu(pid)
    found = 0
    for _ in range(5):
        for owner in range(400):
            found += len(await db.fetch(PAGES[layout].format(o="$1"), owner))
    return (time.process_time() - started + backend_cpu(pid) - served) / found * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=40_000, help="at batches of 100; fewer at smaller ones")
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL too, on a private server")
    chosen = parser.parse_args()
    run_sqlite(chosen.messages)
    if chosen.postgres:
        with cluster() as server:
            asyncio.run(run_postgres(server, chosen.messages))


if __name__ == "__main__":
    main()
