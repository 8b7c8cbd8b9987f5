"""Old messages go, on both stores; what still waits for somebody stays."""

import asyncio

import pytest

from config.settings import ArchiveSettings
from homeserver.domain.messages import PageRequest
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.retention import Pages, Retention
from homeserver.storage import outbox
from homeserver.storage.database import Database
from tests.storage.test_group_commit import committed
from tests.storage.test_mailbox_service import ONE, TWO, Clock, append, message, service

DAY = 86_400.0


async def kept(mailboxes: Mailboxes) -> list[int]:
    return [entry.id for entry in (await mailboxes.page(ONE, PageRequest(50))).entries]


async def settle(database: Database) -> None:
    """Until the entries are filled, without which nothing is deleted."""
    async with asyncio.timeout(10):
        while database.commit.view(1).tail:
            await asyncio.sleep(0.05)


async def test_what_is_older_than_the_time_goes(database: Database) -> None:
    clock = Clock()
    mailboxes = service(database, clock)
    old = [await append(mailboxes, message(number)) for number in range(5)]
    clock.time += 10 * DAY
    new = [await append(mailboxes, message(number)) for number in range(5, 8)]
    mailboxes.settle(TWO, new[-1].id)
    assert await committed(database) is None
    await settle(database)
    retention = Retention(mailboxes, clock, ArchiveSettings())
    assert await retention.purge() == 0
    assert len(await kept(mailboxes)) == 8
    retention.reload(ArchiveSettings(retention=5 * DAY))
    assert await retention.purge() == len(old)
    assert await kept(mailboxes) == [stored.id for stored in new]
    assert await retention.purge() == 0


async def test_what_waits_for_its_recipient_or_for_another_server_stays(database: Database) -> None:
    clock = Clock()
    mailboxes = service(database, clock)
    read = await append(mailboxes, message(1))
    mailboxes.settle(TWO, read.id)
    queued = await append(mailboxes, message(2), to=None)
    waiting = await append(mailboxes, message(3))
    commit = database.commit
    commit.also(outbox.insert_destination, 1, "example.org", "far.example", "0" * 32)
    commit.enqueue(outbox.OutboxRow(1, queued.id + 1000, clock.now(), "u1@example.org", "s2", queued.id, None))
    assert await committed(database) is None
    await settle(database)
    clock.time += 10 * DAY
    retention = Retention(mailboxes, clock, ArchiveSettings(retention=DAY))
    assert await retention.purge() == 1
    assert await kept(mailboxes) == [queued.id, waiting.id]
    assert [entry.id for entry in await mailboxes.pending(TWO, 5)] == [waiting.id]


@pytest.mark.parametrize(("wanted", "size"), [(None, 20), (5, 5), (31, 30)])
def test_the_size_of_a_page(wanted: int | None, size: int) -> None:
    assert Pages(ArchiveSettings(page_default=20, page_max=30)).size(wanted) == size


def test_the_default_is_not_above_the_maximum() -> None:
    assert Pages(ArchiveSettings(page_default=50, page_max=10)).size(None) == 10
