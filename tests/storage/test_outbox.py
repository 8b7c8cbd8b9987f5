"""The queue on disk: numbering is implied by the order of rows, whatever is settled, given up or renumbered."""

from homeserver.domain.federation import Numbering
from homeserver.storage import outbox, schema
from homeserver.storage.database import Database
from homeserver.storage.log_index import LogRow
from homeserver.storage.outbox import OutboxRow


async def fill(database: Database, count: int, destination: int = 1) -> None:
    commit = database.commit
    commit.also(outbox.insert_destination, destination, "a.example", f"b{destination}.example", "e" * 32)
    for number in range(1, count + 1):
        commit.enqueue(OutboxRow(destination, number, float(number), "a@a.example", f"m{number}", None, b"x"))
    await database.write(lambda connection: None)
    while len(await database.read(outbox.page, destination, 0, 1000)) < count:
        await database.write(lambda connection: None)


async def ids(database: Database) -> list[int]:
    return [row.id for row in await database.read(outbox.page, 1, 0, 1000)]


async def test_settling_deletes_from_the_head(database: Database) -> None:
    await fill(database, 5)
    await fill(database, 2, destination=2)
    await database.write(outbox.save_progress, 1, Numbering("f", 3, 5, "e", 4), 5, 5, 3)
    assert await ids(database) == [4, 5]
    found = {row.id: row for row in await database.read(outbox.destinations)}
    assert (found[1].backlog, found[2].backlog, found[1].newest) == (2, 2, 5)
    assert found[1].numbering == Numbering("f", 3, 5, "e", 4)
    assert (found[1].assigned_id, found[1].sent_id) == (5, 5)


async def test_given_up_rows_keep_their_number_only_if_they_have_one(database: Database) -> None:
    await fill(database, 5)
    await database.write(outbox.remove, 1, [2, 4, 5], 3, "expired")
    rows = await database.read(outbox.page, 1, 0, 10)
    assert [(row.id, row.void, row.payload) for row in rows] == [(1, None, b"x"), (2, "expired", None), (3, None, b"x")]


async def test_new_epoch_drops_voids(database: Database) -> None:
    await fill(database, 3)
    await database.write(outbox.remove, 1, [1], 3, "dropped")
    numbering = Numbering("f" * 32, previous="e" * 32)
    assert await database.write(outbox.begin_epoch, 1, numbering) == 2
    found = (await database.read(outbox.destinations))[0]
    assert (found.numbering.epoch, found.numbering.named_until, found.assigned_id) == ("f" * 32, 2, 0)


async def test_stanza_comes_from_the_log(database: Database) -> None:
    await fill(database, 1)
    database.commit.append(LogRow(70, 70, 1, None, "b@b.example", 1, 8, "m", None, b"<message/>"))
    database.commit.enqueue(OutboxRow(1, 2, 2.0, "a@a.example", "m", 70, None))
    database.commit.enqueue(OutboxRow(1, 3, 3.0, "a@a.example", "m", 71, None))
    while len(rows := await database.read(outbox.page, 1, 1, 10)) < 2:
        await database.write(lambda connection: None)
    assert [(row.payload, row.void) for row in rows] == [(b"<message/>", None), (None, "dropped")]


async def test_back_off_is_kept(database: Database) -> None:
    await fill(database, 1)
    await database.write(outbox.save_wait, 1, 3, 99.0, 50.0, "timed out", 12.0)
    found = (await database.read(outbox.destinations))[0]
    assert (found.failures, found.retry_at, found.waiting_since, found.last_error) == (3, 99.0, 50.0, "timed out")
    assert found.heard_at == 12.0


def test_rows_are_in_the_order_of_the_columns() -> None:
    assert list(OutboxRow._fields) == [column.name for column in schema.outbox.columns]
