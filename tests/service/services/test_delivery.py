"""Who is given a message and when it stops waiting: every case here once lost or doubled one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Kind, Message, Relation, Stored, Treatment
from homeserver.protocol.jid import JID
from homeserver.services.backlog import Past
from homeserver.services.delivery import FLUSH_PAGE, Delivery
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.sessions import Sessions
from homeserver.storage.database import Database, open_database
from tests.kit.clocks import FakeClock
from tests.kit.fakes import FakeSession
from tests.kit.world import Section
from tests.storage.conftest import add_accounts

ANN = Account(1, JID("u1", "example.org"))
BOB = Account(2, JID("u2", "example.org"))
ALL = Treatment.ARCHIVE | Treatment.KEEP | Treatment.COPY
UNARCHIVED = Treatment.KEEP | Treatment.COPY


class Post:
    """Delivery over a real store; Bob has sessions, Ann sends."""

    def __init__(self, database: Database) -> None:
        clock = FakeClock()
        self.sessions = Sessions(10)
        self.mailboxes = Mailboxes(database, IdSource(clock.microseconds, database.commit.last_id), clock)
        self.delivery = Delivery(self.sessions, self.mailboxes)

    def send(self, text: str, to: str = "u2@example.org", treatment: Treatment = ALL) -> Stored:
        """A message from Ann enters the open commit."""
        payload = f"<message from='u1@example.org/a' to='{to}' type='chat'><body>{text}</body></message>".encode()
        jid = JID.parse(to)
        message = Message(ANN.jid.with_resource("a"), jid, Kind.CHAT, treatment, None, None, payload)

        def then(stored: Stored | None, error: BaseException | None) -> None:
            assert error is None
            assert stored is not None
            self.delivery.received(stored, BOB)

        return self.mailboxes.append(message, ANN, BOB, then)

    async def sent(self, *texts: str, to: str = "u2@example.org", treatment: Treatment = ALL) -> list[Stored]:
        """Durable and given to whom it is for."""
        made = [self.send(text, to, treatment) for text in texts]
        await self.mailboxes.durable()
        return made

    def session(self, resource: str, priority: int | None = None) -> FakeSession:
        made = FakeSession(BOB, resource)
        made.priority = priority
        self.sessions.bind(made)
        return made

    async def arrives(self, session: FakeSession) -> FakeSession:
        session.priority = 0
        self.delivery.arrived(session)
        await self.settle()
        return session

    async def settle(self) -> None:
        while self.delivery._tasks:
            await asyncio.gather(*self.delivery._tasks)
        await self.mailboxes.durable()

    async def waiting(self) -> list[str]:
        return [text_of(entry.payload) for entry in await self.mailboxes.pending(BOB, 1000)]


def text_of(payload: bytes) -> str:
    return payload.partition(b"<body>")[2].partition(b"</body>")[0].decode()


def texts(session: FakeSession) -> list[str]:
    return [text_of(stored.message.payload) for stored, _, _ in session.delivered]


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with open_database(Section(tmp_path / "parley.db")) as database:
        await database.write(add_accounts)
        made = Post(database)
        yield made
        await made.settle()


async def test_what_comes_while_unavailable_is_given_on_return_and_nothing_twice(post: Post) -> None:
    phone = await post.arrives(post.session("phone"))
    await post.sent("1")
    phone.priority = None
    await post.sent("2", "3")
    assert texts(phone) == ["1"]
    await post.arrives(phone)
    await post.sent("4")
    assert texts(phone) == ["1", "2", "3", "4"]


async def test_message_to_the_full_address_does_not_hide_what_waits(post: Post) -> None:
    await post.sent("1", "2")
    phone = post.session("phone")
    (direct,) = await post.sent("3", to="u2@example.org/phone")
    post.delivery.settled(phone, direct.id)
    await post.settle()
    assert await post.waiting() == ["1", "2", "3"]
    await post.arrives(phone)
    assert texts(phone) == ["3", "1", "2"]


async def test_session_that_takes_only_its_own_settles_its_own(post: Post) -> None:
    robot = post.session("robot", -1)
    (first,) = await post.sent("1", to="u2@example.org/robot")
    post.delivery.settled(robot, first.id)
    await post.settle()
    assert await post.waiting() == []


async def test_acknowledgement_of_one_does_not_settle_what_the_other_has_yet_to_be_given(post: Post) -> None:
    backlog = [f"old{number}" for number in range(3 * FLUSH_PAGE)]
    await post.sent(*backlog)
    phone, laptop = post.session("phone", 0), post.session("laptop", 0)
    post.delivery.arrived(phone)
    post.delivery.arrived(laptop)
    while len(phone.delivered) < FLUSH_PAGE:
        await asyncio.sleep(0)
    (live,) = await post.sent("live")
    while "live" not in texts(laptop):
        await asyncio.sleep(0)
    post.delivery.settled(laptop, live.id)
    await post.settle()
    assert texts(phone) == [*backlog, "live"]
    assert await post.waiting() == []


async def test_who_dies_while_it_catches_up_leaves_the_rest_to_the_other(post: Post) -> None:
    backlog = [f"old{number}" for number in range(2 * FLUSH_PAGE)]
    await post.sent(*backlog)
    phone, laptop = post.session("phone", 0), post.session("laptop", 0)
    post.delivery.arrived(phone)
    post.delivery.arrived(laptop)
    while len(phone.delivered) < FLUSH_PAGE:
        await asyncio.sleep(0)
    await post.sent("direct", to="u2@example.org/phone")
    had = [stored for stored, _, _ in phone.delivered]
    post.sessions.unbind(phone)
    post.delivery.redeliver(phone, had)
    await post.settle()
    assert texts(laptop) == [*backlog, "direct"]


async def test_what_was_on_its_way_to_the_log_is_given_once(post: Post) -> None:
    phone = post.session("phone", 0)
    for number in range(20):
        post.send(str(number))
        if number == 10:
            post.delivery.arrived(phone)
    await post.settle()
    await post.sent("after")
    assert texts(phone) == [*(str(number) for number in range(20)), "after"]


async def test_what_comes_while_it_catches_up_keeps_its_order_when_it_arrives_again(post: Post) -> None:
    backlog = [f"old{number}" for number in range(FLUSH_PAGE + 1)]
    await post.sent(*backlog)
    phone = post.session("phone", 0)
    post.delivery.arrived(phone)
    await post.sent("1")
    post.send("2")
    post.delivery.arrived(phone)
    await post.settle()
    assert texts(phone) == [*backlog, "1", "2"]


async def test_who_has_no_room_is_given_the_rest_later(post: Post) -> None:
    backlog = [f"old{number}" for number in range(5)]
    await post.sent(*backlog)
    phone = post.session("phone", 0)
    phone.room = False
    post.delivery.arrived(phone)
    await post.sent("live")
    assert texts(phone) == []
    phone.room = True
    await post.settle()
    assert texts(phone) == [*backlog, "live"]


async def test_session_that_ends_when_it_is_given_too_much_leaves_all_to_the_next(post: Post) -> None:
    class Full(FakeSession):
        def deliver(self, stored: Stored, relation: Relation, late: bool = False) -> None:
            post.sessions.unbind(self)
            post.delivery.redeliver(self, [stored])

    phone, laptop = Full(BOB, "phone"), FakeSession(BOB, "laptop")
    for session in (phone, laptop):
        post.sessions.bind(session)
        await post.arrives(session)
    await post.sent("1")
    assert texts(laptop) == ["1"], "the list of sessions changed while it was walked"
    post.sessions.unbind(laptop)
    phone = Full(BOB, "phone")
    post.sessions.bind(phone)
    phone.priority = 0
    await post.sent("2")
    assert texts(await post.arrives(post.session("tablet"))) == ["1", "2"]


async def test_what_was_read_from_the_archive_is_not_given_again(post: Post) -> None:
    first, _ = await post.sent("1", "2")
    phone = post.session("phone")
    phone.has_read([first.id])
    await post.arrives(phone)
    assert texts(phone) == ["2"]


async def test_second_acknowledgement_settles_what_the_first_had_to_leave(post: Post) -> None:
    phone, laptop = await post.arrives(post.session("phone")), await post.arrives(post.session("laptop"))
    (one,) = await post.sent("1", to="u2@example.org/phone")
    (two,) = await post.sent("2", to="u2@example.org/laptop")
    phone.unacknowledged = [one.id]
    post.delivery.settled(laptop, two.id)
    await post.mailboxes.durable()
    assert await post.waiting() == ["1", "2"]
    phone.unacknowledged = []
    post.delivery.settled(phone, one.id)
    await post.mailboxes.durable()
    assert await post.waiting() == []


def past(received: int, sent: int, marked: int, position: int = 0, since: int = 0) -> Past:
    return Past("phone", since, 0, position, sent, marked, received)


async def returned(post: Post, before: Past) -> FakeSession:
    """A session as it comes back after the server was killed."""
    session = FakeSession(BOB, "phone")
    session.priority = 0
    position = await post.delivery.reached(session, before)
    post.sessions.bind(session)
    post.delivery.returned(session, position, before)
    await post.settle()
    return session


@pytest.mark.parametrize(
    ("received", "sent", "again"), [(5, 5, 0), (6, 5, 0), (3, 5, 2), (3, 7, 4), (1, 7, 5), (0, 5, 5)]
)
async def test_what_the_count_covers_for_certain_does_not_come_again(
    post: Post, received: int, sent: int, again: int
) -> None:
    """Five messages were sent, and ``sent - 5`` other stanzas, nobody knows between which."""
    ids = [stored.id for stored in await post.sent(*"12345")]
    session = await returned(post, past(received, sent, ids[-1]))
    assert texts(session) == list("12345")[5 - again :]


async def test_returned_session_is_given_what_is_in_no_archive(post: Post) -> None:
    await post.sent("1", treatment=UNARCHIVED)
    await post.sent("2")
    assert texts(await returned(post, past(0, 0, 0))) == ["1", "2"]


async def test_returned_session_is_given_what_had_waited_for_another_resource(post: Post) -> None:
    (old,) = await post.sent("1", to="u2@example.org/gone")
    await post.sent("2", to="u2@example.org/elsewhere")
    session = await returned(post, past(0, 0, 0, since=old.id))
    assert [(text_of(stored.message.payload), relation) for stored, relation, _ in session.delivered] == [
        ("1", Relation.DIRECT)
    ]
