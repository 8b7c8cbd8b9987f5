"""The readiness of a server follows its store."""

import asyncio
import threading

import pytest
from sqlalchemy import Connection

from homeserver.services.health import Health
from homeserver.storage.database import Database, open_database
from homeserver.storage.faults import is_full
from tests.kit.postgres import Cluster
from tests.storage.conftest import Section, add_accounts
from tests.storage.test_group_commit import committed, row


async def becomes(health: Health, expected: str | None) -> None:
    async with asyncio.timeout(10):
        while await health.why_not_ready() != expected:
            await asyncio.sleep(0.02)


async def test_a_store_that_works_is_ready_and_has_a_size(database: Database) -> None:
    health = Health(database)
    assert await health.why_not_ready() is None
    await health.measure()
    assert health.store_bytes > 10_000


async def test_a_full_store_is_not_ready_until_there_is_room_again(sqlite_section: Section) -> None:
    async with open_database(sqlite_section) as database:
        await database.write(add_accounts)
        health, commit = Health(database), database.commit

        def pages(connection: Connection, more: int) -> None:
            count = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={int(count) + more}")

        commit.also(pages, 0)
        assert await committed(database) is None
        commit.append(row(1, payload=b"x" * 100_000))
        error = await committed(database)
        assert error is not None
        assert is_full(error)
        assert await health.why_not_ready() == "the store cannot be written, there is no room left"
        commit.also(pages, 1000)
        await becomes(health, None)
        assert commit.failures >= 1


async def test_a_store_that_does_not_finish_is_not_ready(sqlite_section: Section) -> None:
    go_on = threading.Event()
    async with open_database(sqlite_section) as database:
        health = Health(database, patience=0.05)
        database.commit.also(lambda _connection: go_on.wait(10))
        await becomes(health, "the store does not finish writing")
        go_on.set()
        await becomes(health, None)


@pytest.mark.postgres
async def test_a_database_that_is_gone_is_not_ready(postgres_section: Section, postgres: Cluster) -> None:
    async with open_database(postgres_section) as database:
        await database.write(add_accounts)
        health = Health(database, patience=1.0)
        assert await health.why_not_ready() is None
        await asyncio.to_thread(postgres.stop, True)
        assert await health.why_not_ready() == "the store cannot be read"
        await asyncio.to_thread(postgres.start)
        await becomes(health, None)
