"""The service over the store: appended is found at once, whatever has entries already; resends are recognised."""

import asyncio
import time
from statistics import median

import pytest

from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Kind, Message, PageRequest, Stored, Treatment
from homeserver.protocol.jid import JID
from homeserver.services.mailboxes import Mailboxes, digest
from homeserver.storage.database import Database
from homeserver.storage.log_index import LogRow
from tests.storage.conftest import Open, add_accounts
from tests.storage.test_group_commit import committed

ONE, TWO = (Account(number, JID(f"u{number}", "example.org")) for number in (1, 2))
BOTH = Treatment.ARCHIVE | Treatment.KEEP


class Clock:
    """Time as the test says."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def microseconds(self) -> int:
        return int(self.time * 1e6)

    def monotonic(self) -> float:
        return self.time


def message(number: int, origin: str | None = None, resource: str = "phone", treatment: Treatment = BOTH) -> Message:
    payload = f"<message from='u1@example.org/{resource}'><body>{number}</body></message>".encode()
    return Message(
        JID("u1", "example.org", resource),
        JID("u2", "example.org"),
        Kind.CHAT,
        treatment,
        f"s{number}",
        origin,
        payload,
    )


def service(database: Database, clock: Clock) -> Mailboxes:
    return Mailboxes(database, IdSource(clock.microseconds, database.commit.last_id), clock)


async def append(mailboxes: Mailboxes, sent: Message, sender: Account | None = ONE, to: Account | None = TWO) -> Stored:
    done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

    def then(stored: Stored | None, error: BaseException | None) -> None:
        if stored is not None:
            done.set_result(stored)
        else:
            done.set_exception(error or RuntimeError())

    mailboxes.append(sent, sender, to, then)
    return await done


async def test_an_acknowledged_message_is_on_the_next_page(database: Database) -> None:
    mailboxes = service(database, Clock())
    sent = [await append(mailboxes, message(number)) for number in range(20)]
    for owner in (ONE, TWO):
        page = await mailboxes.page(owner, PageRequest(50))
        assert [entry.id for entry in page.entries] == [stored.id for stored in sent]
    assert [entry.id for entry in await mailboxes.pending(TWO, 3)] == [stored.id for stored in sent[:3]]
    assert [entry.id for entry in await mailboxes.pending(TWO, 3, after=sent[3].id)] == [
        stored.id for stored in sent[4:7]
    ]
    assert await mailboxes.settled(ONE) == 0
    assert await mailboxes.pending(ONE, 3) == []
    assert await mailboxes.settled(ONE) == sent[-1].id
    mailboxes.settle(TWO, sent[17].id, lazy=True)
    assert await mailboxes.settled(TWO) == sent[17].id
    assert [entry.id for entry in await mailboxes.pending(TWO, 9)] == [stored.id for stored in sent[18:]]
    first, last = await mailboxes.metadata(TWO)
    assert first is not None
    assert last is not None
    assert (first.id, last.id) == (sent[0].id, sent[-1].id)
    found = await mailboxes.find(TWO, sent[4].id)
    assert found is not None
    assert found.payload == message(4).payload
    assert [each.peer for each in await mailboxes.conversations(TWO, None, 9)] == ["u1@example.org"]
    assert await mailboxes.count(TWO, PageRequest(1)) == 20
    assert await mailboxes.count(TWO, PageRequest(1, peer="u1@example.org")) == 20


async def test_what_was_handed_out_is_not_settled_by_looking_for_more(database: Database) -> None:
    mailboxes = service(database, Clock())
    first = await append(mailboxes, message(1))
    second = await append(mailboxes, message(2))
    assert await mailboxes.pending(TWO, 9, after=second.id) == []
    assert await mailboxes.settled(TWO) == 0
    mailboxes.settle(TWO, first.id)
    assert await mailboxes.pending(TWO, 9, after=second.id) == []
    assert await mailboxes.settled(TWO) == first.id
    mailboxes.settle(TWO, second.id)
    answer = await append(mailboxes, message(3), sender=TWO, to=ONE)
    assert await mailboxes.pending(TWO, 9, after=second.id) == []
    assert await mailboxes.settled(TWO) == answer.id


async def test_a_slow_clock_keeps_times_and_order_apart(database: Database) -> None:
    clock = Clock()
    mailboxes = service(database, clock)
    first = await append(mailboxes, message(1))
    clock.time -= 100.0
    second = await append(mailboxes, message(2))
    assert second.id == first.id + 1
    assert second.at == first.at - 100_000_000
    page = await mailboxes.page(TWO, PageRequest(9, end=second.at))
    assert [entry.id for entry in page.entries] == [second.id]
    page = await mailboxes.page(TWO, PageRequest(9, start=first.at))
    assert [entry.id for entry in page.entries] == [first.id]


async def test_a_resend_gets_the_first_id_again(opening: Open) -> None:
    clock = Clock()
    async with opening() as database:
        await database.write(add_accounts)
        mailboxes = service(database, clock)
        await mailboxes.load()
        stored = await append(mailboxes, message(1, "o1"))
        far = await append(mailboxes, remote_message(), to=None)
        again = message(1, "o1", resource="other")
        assert mailboxes.seen("u1@example.org", "u2@example.org", "o1", digest(again.payload)) == stored.id
        assert mailboxes.seen("u1@example.org", "u2@example.org", "o1", digest(message(2).payload)) is None
        assert mailboxes.seen("u3@example.org", "u2@example.org", "o1", digest(again.payload)) is None
    async with opening() as database:
        mailboxes = service(database, clock)
        await mailboxes.load()
        assert mailboxes.seen("u1@example.org", "u2@example.org", "o1", digest(again.payload)) == stored.id
        assert mailboxes.seen("u1@example.org", "far@example.net", "o2", digest(remote_message().payload)) == far.id
        clock.time += 3601.0
        assert mailboxes.seen("u1@example.org", "u2@example.org", "o1", digest(again.payload)) is None


def remote_message() -> Message:
    sent = message(7, "o2")
    return Message(sent.sender, JID("far", "example.net"), sent.kind, sent.treatment, "s", "o2", sent.payload)


@pytest.mark.timeout(300)
async def test_pages_cost_the_same_in_a_large_archive(database: Database) -> None:
    """A page at 200 000 messages takes little longer than one at 10 000 (the bound leaves room for a busy machine)."""
    clock = Clock()
    mailboxes = service(database, clock)

    async def grow(count: int) -> None:
        for start in range(0, count, 5000):
            for number in range(start, start + 5000):
                id_ = database.commit.last_id + 1
                sender = 1 if number % 2 else 3 + number // 2 % 6
                database.commit.append(LogRow(id_, id_, sender, 2, None, 1, 3, None, None, b"<message/>"))
            assert await committed(database) is None

    async def cost() -> float:
        requests = [
            PageRequest(50, backwards=True),
            PageRequest(50, peer="u1@example.org", after=database.commit.last_id // 2),
            PageRequest(50, start=database.commit.last_id // 2),
        ]
        spent = []
        for request in requests * 15:
            began = time.perf_counter()
            assert len((await mailboxes.page(TWO, request)).entries) == 50
            spent.append(time.perf_counter() - began)
        for _ in range(15):
            began = time.perf_counter()
            assert len(await mailboxes.conversations(TWO, None, 50)) == 7
            spent.append(time.perf_counter() - began)
        return median(spent)

    await grow(10_000)
    await settled_tail(database)
    small = await cost()
    await grow(190_000)
    await settled_tail(database)
    large = await cost()
    assert large < 3 * small + 0.002


async def settled_tail(database: Database) -> None:
    """Wait until the entries are filled, as they are within a second."""
    async with asyncio.timeout(20):
        while database.commit.view(TWO.id).tail:
            await asyncio.sleep(0.05)
