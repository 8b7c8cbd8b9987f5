"""The transaction of a batch: ids that another node has overtaken, and what refers to them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, Text, select

from homeserver.storage import engines, postgresql, schema
from homeserver.storage.batch import Also, Batch, BatchWriter
from homeserver.storage.database import Database, open_database
from tests.storage.conftest import Section
from tests.storage.test_group_commit import ids, row

queue = Table(
    "queue",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=True, info={"filled_by": "database"}),
    Column("log_id", BigInteger, info={"log_id": True}),
    Column("word", Text),
)


def writer(stride: int) -> BatchWriter:
    return BatchWriter(f"node {stride}", queue, lambda _point: None, stride)


@asynccontextmanager
async def running(section: Section) -> AsyncIterator[Callable[..., Any]]:
    """Run functions on a connection without a transaction of its own."""
    if section.url is None:
        engine = engines.sqlite_engine(section.path, "full", read_only=False)
        with engine.connect() as connection:

            async def call(fn: Callable[..., Any], *args: Any) -> Any:
                return fn(connection, *args)

            yield call
        engine.dispose()
    else:
        remote = postgresql.postgresql_engine(section.url, 1)
        async with remote.connect() as found:

            async def run(fn: Callable[..., Any], *args: Any) -> Any:
                return await found.run_sync(fn, *args)

            yield run
        await remote.dispose()


def queued(connection: Connection) -> list[tuple[int, str]]:
    with connection.begin():
        return [
            (log_id, word)
            for log_id, word in connection.execute(select(queue.c.log_id, queue.c.word).order_by("number"))
        ]


async def test_rows_of_the_outbox_are_written_with_the_log(database: Database, section: Section) -> None:
    await database.write(queue.create)
    async with running(section) as run:
        await run(writer(1).write, Batch(rows=[row(5), row(7)], outbox=[(5, "a"), (7, "b"), (None, "c")]))
        assert await run(queued) == [(5, "a"), (7, "b"), (None, "c")]


@pytest.mark.postgres
async def test_overtaken_ids_are_raised_with_what_refers_to_them(postgres_section: Section) -> None:
    async with open_database(postgres_section) as database:
        await database.write(queue.create)
        async with running(postgres_section) as run:
            one, two = writer(4), writer(4)
            await run(one.write, Batch(rows=[row(101, 1, 2)]))
            behind = Batch(rows=[row(42, 2, 3), row(46, 4, 5), row(90, 3, 4)], outbox=[(42, "a"), (90, "b")])
            await run(two.write, behind)
            assert behind.raised == {42: 102, 46: 106, 90: 110}
            assert [placed.id % 4 for placed in behind.placed] == [2, 2, 2]
            assert await run(queued) == [(102, "a"), (110, "b")]
            late = Batch(rows=[row(98, 8, 9)])
            await run(two.write, late)
            assert late.raised == {98: 114}
            free = Batch(rows=[row(201, 1, 3)])
            await run(one.write, free)
            assert free.raised == {}
            assert await database.read(ids) == [101, 102, 106, 110, 114, 201]


@pytest.mark.postgres
async def test_it_is_known_whether_a_batch_arrived(postgres_section: Section) -> None:
    async with open_database(postgres_section), running(postgres_section) as run:
        written = writer(1)
        with_rows = Batch(rows=[row(1)], mark=1)
        assert not await run(written.was_committed, with_rows)
        await run(written.write, with_rows)
        assert await run(written.was_committed, with_rows)
        bare = Batch(mark=2)
        assert not await run(written.was_committed, bare)
        note(bare)
        await run(written.write, bare)
        assert await run(written.was_committed, bare)
        await run(written.forget_mark)
        assert not await run(written.was_committed, bare)


def note(batch: Batch) -> None:
    """Give the batch work without messages."""
    batch.also.append(Also(lambda connection: connection.execute(select(schema.log.c.id)), (), -1))
