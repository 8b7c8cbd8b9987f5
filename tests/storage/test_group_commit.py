"""The group commit: order, one transaction for what is queued together, failures, positions."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, text

from homeserver.storage import resumption
from homeserver.storage.database import Database
from homeserver.storage.log_index import LogRow
from homeserver.storage.resumption import ResumableStream
from tests.storage.conftest import Open


def row(id_: int, sender: int | None = 1, recipient: int | None = 2, payload: bytes = b"<message/>") -> LogRow:
    remote = "far@example.net" if sender is None or recipient is None else None
    return LogRow(id_, id_, sender, recipient, remote, 1, 15, f"s{id_}", None, payload)


async def committed(database: Database) -> BaseException | None:
    """Wait for everything queued so far."""
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    database.commit.follow(done.set_result)
    return await done


def ids(connection: Connection) -> list[int]:
    return [int(found) for (found,) in connection.exec_driver_sql("SELECT id FROM log ORDER BY id")]


def scalar(connection: Connection, statement: str) -> Any:
    return connection.execute(text(statement)).scalar()


async def test_callbacks_come_in_the_order_of_queueing(database: Database) -> None:
    called: list[object] = []
    commit = database.commit
    for number in range(1, 4):
        commit.append(row(number), lambda error, number=number: called.append((number, error)))
    commit.also(scalar, "SELECT 1", then=lambda error: called.append(("also", error)))
    commit.append(row(9), lambda error: called.append((9, error)))
    commit.follow(lambda error: called.append(("follow", error)))
    assert called == []
    await committed(database)
    assert called == [(1, None), (2, None), (3, None), ("also", None), (9, None), ("follow", None)]
    assert await database.read(ids) == [1, 2, 3, 9]


async def test_follow_is_immediate_when_nothing_is_pending(database: Database) -> None:
    called: list[object] = []
    database.commit.follow(called.append)
    assert called == [None]


async def test_follow_from_inside_a_callback_waits_for_the_callbacks_before_it(database: Database) -> None:
    called: list[str] = []

    def first(error: BaseException | None) -> None:
        called.append("first")
        database.commit.follow(lambda _: called.append("follow"))

    database.commit.append(row(1), first)
    database.commit.append(row(2), lambda _: called.append("second"))
    await committed(database)
    assert called == ["first", "second", "follow"]


async def test_what_is_queued_without_a_pause_is_one_transaction(database: Database) -> None:
    transactions: list[int] = []

    def note(connection: Connection) -> None:
        transactions.append(len(ids(connection)))

    for number in range(1, 51):
        database.commit.append(row(number))
    database.commit.also(note)
    await committed(database)
    assert transactions == [50]


async def test_ids_must_grow(database: Database) -> None:
    database.commit.append(row(5))
    with pytest.raises(ValueError, match="grow"):
        database.commit.append(row(5))
    assert await committed(database) is None


async def test_a_failing_function_fails_alone(database: Database) -> None:
    results: dict[str, object] = {}

    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO mailbox (account, last_id, settled) VALUES (77, 0, 0)")
        raise LookupError("no")

    commit = database.commit
    commit.append(row(1), lambda error: results.update(row=error))
    commit.also(scalar, "SELECT 1", then=lambda error: results.update(good=error))
    commit.also(fail, then=lambda error: results.update(bad=error))
    commit.also(scalar, "SELECT nonsense", then=lambda error: results.update(worse=error))
    assert await committed(database) is None
    assert results["row"] is None
    assert results["good"] is None
    assert isinstance(results["bad"], LookupError)
    assert "nonsense" in str(results["worse"])
    assert await database.read(ids) == [1]
    assert await database.read(scalar, "SELECT count(*) FROM mailbox WHERE account = 77") == 0


async def test_counters_and_positions_of_streams(database: Database) -> None:
    stored = ResumableStream("a", 1, "phone", 0, 0, 0, b"{}", 1.0, 100.0)
    await database.write(resumption.add, stored)
    await database.write(resumption.add, ResumableStream("b", 1, "desk", 0, 0, 0, b"{}", 2.0, 200.0))
    commit = database.commit
    for received in range(5):
        commit.counter("a", received)
    commit.counter("b", 7)
    commit.counter("gone", 7)
    commit.position("b", 3, 12345678901234)
    commit.mark("b", 5, 12345678901299)
    assert await committed(database) is None
    first = await database.read(resumption.find, "a", 50.0)
    second = await database.read(resumption.find, "b", 50.0)
    assert first is not None
    assert second is not None
    assert first.received == 4
    assert (second.received, second.sent, second.position) == (7, 3, 12345678901234)
    assert (second.marked_sent, second.marked_position, second.state) == (5, 12345678901299, b"{}")
    assert await database.read(resumption.find, "gone", 50.0) is None
    assert [found.id for found in await database.write(resumption.expire, 150.0)] == ["a"]
    assert await database.write(resumption.keep, "b", b"{1}", 3.0, 300.0)
    assert [found.state for found in await database.read(resumption.of_account, 1, 250.0)] == [b"{1}"]
    assert await database.write(resumption.remove, "b")
    assert not await database.write(resumption.remove, "b")


async def test_settled_only_rises(database: Database) -> None:
    commit = database.commit
    commit.settle(1, 10)
    await committed(database)
    commit.settle(1, 5)
    commit.settle(2, 7)
    await committed(database)
    assert await database.read(scalar, "SELECT settled FROM mailbox WHERE account = 1") == 10
    assert await database.read(scalar, "SELECT settled FROM mailbox WHERE account = 2") == 7


async def test_a_lazy_position_is_written_within_a_second(database: Database) -> None:
    database.commit.settle(3, 30, lazy=True)
    assert database.commit.settling(3) == 30
    async with asyncio.timeout(5):
        while await database.read(scalar, "SELECT settled FROM mailbox WHERE account = 3") != 30:
            await asyncio.sleep(0.05)


async def test_a_lazy_position_is_written_at_the_end(opening: Open) -> None:
    async with opening() as database:
        database.commit.settle(3, 30, lazy=True)
    async with opening() as database:
        assert await database.read(scalar, "SELECT settled FROM mailbox WHERE account = 3") == 30


async def test_the_queue_is_bounded_and_tells_when_it_is_relieved(database: Database) -> None:
    payload = b"x" * (1024 * 1024)
    for number in range(1, 66):
        database.commit.append(row(number, payload=payload))
    assert database.commit.full
    relieved = asyncio.Event()
    database.commit.when_relieved(relieved.set)
    async with asyncio.timeout(30):
        await relieved.wait()
    assert not database.commit.full


async def test_writes_and_commits_take_turns(database: Database) -> None:
    """Neither starves the other: many of both finish, and nothing meets a locked database."""

    def touch(connection: Connection, number: int) -> None:
        connection.exec_driver_sql(f"INSERT INTO address (jid) VALUES ('w{number}@example.net')")

    writes = [asyncio.ensure_future(database.write(touch, number)) for number in range(30)]
    for number in range(1, 200):
        database.commit.append(row(number))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*writes)
    assert await committed(database) is None
    assert len(await database.read(ids)) == 199
