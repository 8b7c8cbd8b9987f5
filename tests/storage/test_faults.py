"""What happens to acknowledged messages when the process, the disk or the database fails (R-28)."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import pytest
from sqlalchemy import Connection

from homeserver.domain.messages import PageRequest
from homeserver.storage import mailboxes
from homeserver.storage.batch import CRASH_POINTS, FILL_CRASH_POINTS
from homeserver.storage.database import Database, open_database
from homeserver.storage.log_index import LogRow
from homeserver.storage.task_committer import TaskCommitter
from tests.kit.postgres import Cluster
from tests.storage.conftest import Open, Section, add_accounts
from tests.storage.test_group_commit import committed, ids, row


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("step", CRASH_POINTS)
async def test_killed_at_a_step_of_a_commit(section: Section, opening: Open, step: str, times: int) -> None:
    await killed(section, opening, step, times)


@pytest.mark.parametrize("step", FILL_CRASH_POINTS)
async def test_killed_while_entries_are_filled(sqlite_section: Section, step: str) -> None:
    await killed(sqlite_section, partial(open_database, sqlite_section), step, 1)


async def killed(section: Section, opening: Open, step: str, times: int) -> None:
    """Run a server's store until it dies at ``step``; whatever it acknowledged must be there, once."""
    async with opening() as database:
        await database.write(add_accounts)
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.storage.crashing", str(section.path), section.url or "-", step, str(times)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 9, ended.stderr.decode()
    acknowledged = [int(line) for line in ended.stdout.split()]
    async with opening() as database:
        stored = await database.read(ids)
        assert set(acknowledged) <= set(stored)
        assert acknowledged == sorted(acknowledged)
        assert stored == list(range(1, len(stored) + 1))
        for owner in (1, 2):
            page = await database.read(mailboxes.page, owner, PageRequest(5000), database.commit.view(owner))
            assert [entry.id for entry in page.entries] == stored
        database.commit.append(row(database.commit.last_id + 1))
        assert await committed(database) is None


async def test_a_full_disk_refuses_and_recovers(sqlite_section: Section) -> None:
    async with open_database(sqlite_section) as database:
        await database.write(add_accounts)
        commit = database.commit
        commit.append(row(1))

        def fill_up(connection: Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={int(pages) + 2}")

        commit.also(fill_up)
        assert await committed(database) is None
        errors: list[BaseException | None] = []
        for number in range(2, 20):
            commit.append(row(number, payload=b"x" * 4000), errors.append)
        error = await committed(database)
        assert "full" in str(error)
        assert errors == [error] * 18
        assert await database.read(ids) == [1]
        commit.append(row(30))
        assert await committed(database) is None
        assert await database.read(ids) == [1, 30]


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
"""


async def test_another_process_holds_the_store_for_a_while(sqlite_section: Section) -> None:
    async with open_database(sqlite_section) as database:
        await database.write(add_accounts)
        holder = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            HOLD,
            str(sqlite_section.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert await holder.stdout.readline() == b"held\n"
        acknowledged: list[BaseException | None] = []
        database.commit.append(row(1), acknowledged.append)
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            assert await database.read(ids) == []
            await asyncio.sleep(0.05)
        assert acknowledged == []
        holder.stdin.close()
        assert await committed(database) is None
        assert acknowledged == [None]
        assert await database.read(ids) == [1]
        assert await holder.wait() == 0


@pytest.mark.postgres
async def test_postgres_crashes_in_a_storm(postgres_section: Section, postgres: Cluster) -> None:
    async with open_database(postgres_section) as database:
        await database.write(add_accounts)
        results: dict[int, BaseException | None] = {}
        stop = asyncio.Event()

        async def storm() -> None:
            number = 0
            while not stop.is_set():
                for _ in range(5):
                    number += 1
                    database.commit.append(row(number), lambda error, number=number: results.update({number: error}))
                    if number % 10 == 0:
                        text = f"INSERT INTO address (jid) VALUES ('p{number}@example.net')"
                        database.commit.also(lambda connection, text=text: connection.exec_driver_sql(text))
                await asyncio.sleep(0.002)

        running = asyncio.create_task(storm())
        async with asyncio.timeout(30):
            while len(results) < 100:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await asyncio.to_thread(postgres.stop, True)
        await asyncio.to_thread(postgres.start)
        outage = time.monotonic() - began
        seen = len(results)
        async with asyncio.timeout(outage + 2):
            while len(results) <= seen:
                await asyncio.sleep(0.01)
        stop.set()
        await running
        assert await committed(database) is None
        assert set(results.values()) == {None}
        assert await database.read(ids) == sorted(results)
        known = await database.read(addresses)
        assert Counter(known).most_common(1)[0][1] == 1
        assert len(known) == len(results) // 10


@pytest.mark.postgres
async def test_postgres_stays_away(
    postgres_section: Section, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskCommitter, "PATIENCE", 0.5)
    async with open_database(postgres_section) as database:
        database.commit.append(row(1))
        assert await committed(database) is None
        await asyncio.to_thread(postgres.stop, True)
        errors: list[BaseException | None] = []
        database.commit.append(row(2), errors.append)
        assert await committed(database) is not None
        assert errors[0] is not None
        await asyncio.to_thread(postgres.start)
        database.commit.append(row(3))
        assert await committed(database) is None
        assert await database.read(ids) == [1, 3]


def addresses(connection: Connection) -> list[str]:
    return [str(jid) for (jid,) in connection.exec_driver_sql("SELECT jid FROM address WHERE jid LIKE 'p%'")]


@pytest.mark.postgres
async def test_two_nodes_write_one_mailbox_and_a_reader_misses_nothing(postgres_section: Section) -> None:
    """Node 1's clock lags behind, so its ids must be raised; the reader resumes from the last id it saw."""
    total = 300
    async with (
        open_database(postgres_section, stride=2) as one,
        open_database(postgres_section, stride=2) as two,
        open_database(postgres_section, owner=False) as reader,
    ):
        await one.write(add_accounts)
        done = asyncio.Event()
        given: list[int] = []

        async def write(database: Database, node: int, lag: int) -> None:
            last = 0
            for number in range(total):
                last = max(last + 2, (time.time_ns() // 2000) * 2 - lag + node)
                sent = LogRow(last, last, 1, 2, None, 1, 3, None, None, json.dumps([node, number]).encode())

                def then(error: BaseException | None, database: Database = database, last: int = last) -> None:
                    assert error is None
                    given.append(database.commit.raised.get(last, last))

                database.commit.append(sent, then)
                await asyncio.sleep(0.001 * (number % 3))
            assert await committed(database) is None

        async def follow() -> list[int]:
            seen: list[int] = []
            ending = False
            while True:
                ending = done.is_set()
                request = PageRequest(50, after=seen[-1] if seen else None)
                page = await reader.read(mailboxes.page, 2, request, one.commit.view(2))
                seen += [entry.id for entry in page.entries]
                if ending and not page.entries:
                    return seen

        following = asyncio.create_task(follow())
        await asyncio.gather(write(one, 0, 0), write(two, 1, 50_000))
        done.set()
        seen = await following
        assert len(seen) == 2 * total
        assert seen == await reader.read(ids) == sorted(given)
