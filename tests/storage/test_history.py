"""Tombstones, hidden messages, read positions and words, on both databases, whatever has entries already."""

import asyncio
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection

from homeserver.domain.accounts import Account
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Entry, Kind, Message, PageRequest, Stored, Treatment
from homeserver.domain.search import parse
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.services.inbox import Inbox
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.search import Search
from homeserver.storage import mailbox_removal, places
from homeserver.storage.database import Database
from tests.storage.test_mailbox_service import Clock

ONE, TWO, THREE = (Account(number, JID(f"u{number}", "example.org")) for number in (1, 2, 3))
FAR = JID("far", "example.net")
ALL = Treatment.ARCHIVE | Treatment.KEEP | Treatment.COPY | Treatment.DURABLE


@dataclass
class Post:
    """Mailboxes, inbox and search of one store."""

    database: Database
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        ids = IdSource(self.clock.microseconds, self.database.commit.last_id)
        self.mailboxes = Mailboxes(self.database, ids, self.clock)
        self.inbox = Inbox(self.database, self.mailboxes)
        self.search = Search(self.database)

    async def send(
        self,
        sender: Account | JID,
        to: Account | JID,
        content: str,
        stanza_id: str = "m",
        kind: Treatment = Treatment.INSTANT,
    ) -> Stored:
        self.clock.time += 1
        source = (sender.jid if isinstance(sender, Account) else sender).with_resource("r")
        target = to.jid if isinstance(to, Account) else to
        payload = f"<message from='{source}' to='{target}' type='chat' id='{stanza_id}'>{content}</message>".encode()
        message = Message(source, target, Kind.CHAT, int(ALL | kind), stanza_id, None, payload)
        done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def then(stored: Stored | None, error: BaseException | None) -> None:
            if stored is None:
                done.set_exception(error or RuntimeError())
            else:
                done.set_result(stored)

        local = sender if isinstance(sender, Account) else None
        self.mailboxes.append(message, local, to if isinstance(to, Account) else None, then)
        stored = await done
        self.inbox.observe(stored, local, to if isinstance(to, Account) else None)
        return stored

    async def retract(self, sender: Account | JID, to: Account | JID, named: str) -> Stored:
        content = f"<retract xmlns='{ns.RETRACTION}' id='{named}'/>"
        return await self.send(sender, to, content, f"r-{named}", Treatment.RETRACTION)

    async def displayed(self, reader: Account, author: Account | JID, named: str) -> None:
        content = f"<displayed xmlns='{ns.CHAT_MARKERS}' id='{named}'/>"
        await self.send(reader, author, content, f"d-{named}", Treatment.DISPLAYED)

    async def entries(self, owner: Account, words: str | None = None, **bounds: object) -> list[Entry]:
        if words is not None:
            assert await self.search.catch_up()
        request = PageRequest(100, words=parse(words) if words is not None else None, **bounds)  # type: ignore[arg-type]
        return (await self.mailboxes.page(owner, request)).entries

    async def found(self, owner: Account, words: str) -> list[str]:
        return [entry.stanza_id or "" for entry in await self.entries(owner, words)]

    async def unread(self, owner: Account) -> dict[str, int]:
        return {made.peer: made.unread for made in await self.inbox.conversations(owner, None, 50)}

    async def filled(self) -> None:
        """Entries exist for everything (SQLite fills them a second later)."""
        while self.mailboxes._commit.view(1).tail or self.mailboxes._commit.view(2).tail:
            self.database.commit._fill_is_due()
            await asyncio.sleep(0.01)


@pytest.fixture
def post(database: Database) -> Post:
    return Post(database)


def body(text: str) -> str:
    return f"<body>{text}</body>"


@pytest.mark.parametrize("filled", [False, True])
async def test_a_retraction_leaves_a_tombstone_in_both_archives(post: Post, filled: bool) -> None:
    await post.send(ONE, TWO, body("kept"), "m0")
    await post.send(ONE, TWO, body("secret plan"), "m1")
    assert await post.found(TWO, "secret") == ["m1"]
    if filled:
        await post.filled()
    await post.retract(ONE, TWO, "m1")
    for owner in (ONE, TWO):
        first, second, third = await post.entries(owner)
        assert b"kept" in first.payload
        assert b"secret" not in second.payload
        assert f"<retracted xmlns='{ns.RETRACTION}' id='r-m1' stamp='".encode() in second.payload
        assert second.stanza_id == "m1"
        assert b"<retract " in third.payload
        assert await post.found(owner, "secret") == []
    # What was taken back is not delivered later; the retraction is.
    assert [entry.stanza_id for entry in await post.mailboxes.pending(TWO, 9)] == ["m0", "r-m1"]


@pytest.mark.parametrize("filled", [False, True])
async def test_s88_only_the_author_takes_a_message_back(post: Post, filled: bool) -> None:
    await post.send(ONE, TWO, body("mine"), "m1")
    await post.send(FAR, TWO, body("far"), "m2")
    if filled:
        await post.filled()
    await post.retract(TWO, ONE, "m1")
    await post.retract(THREE, TWO, "m1")
    await post.retract(ONE, THREE, "m1")
    await post.retract(ONE, TWO, "m2")
    await post.retract(JID("other", "example.net"), TWO, "m2")
    assert [b"<body>" in entry.payload for entry in await post.entries(TWO)][:2] == [True, True]
    await post.retract(FAR, TWO, "m2")
    payloads = {entry.stanza_id: entry.payload for entry in await post.entries(TWO)}
    assert b"mine" in payloads["m1"]
    assert b"<retracted" in payloads["m2"]


async def test_a_message_is_taken_back_once_and_of_two_with_one_id_the_newest(post: Post) -> None:
    await post.send(ONE, FAR, body("first"), "m")
    await post.send(ONE, FAR, body("second"), "m")
    await post.retract(ONE, FAR, "m")
    await post.retract(ONE, FAR, "m")
    first, second, *_ = await post.entries(ONE)
    assert b"first" in first.payload
    assert second.payload.count(b"<retracted") == 1


async def test_a_message_to_oneself_can_be_taken_back(post: Post) -> None:
    await post.send(ONE, ONE, body("note"), "n")
    await post.retract(ONE, ONE, "n")
    assert b"<retracted" in (await post.entries(ONE))[0].payload


@pytest.mark.parametrize("filled", [False, True])
async def test_a_hidden_message_is_gone_for_its_owner_only(post: Post, filled: bool) -> None:
    one = await post.send(ONE, TWO, body("both have it"), "m1")
    far = await post.send(ONE, FAR, body("only mine"), "m2")
    assert len(await post.entries(ONE, "it")) == 1
    if filled:
        await post.filled()
    for stored in (one, far):
        assert await post.mailboxes.hide(ONE, stored.id)
        assert not await post.mailboxes.hide(ONE, stored.id)
    await post.filled()
    assert await post.entries(ONE) == []
    assert [(entry.stanza_id, entry.peer) for entry in await post.entries(TWO)] == [("m1", "u1@example.org")]
    assert await post.found(ONE, "mine") == []
    assert await post.found(TWO, "both") == ["m1"]
    assert not await post.mailboxes.hide(THREE, one.id)
    assert await post.mailboxes.hide(TWO, one.id)
    assert await post.database.read(left, one.id) == 0


def left(connection: Connection, id_: int) -> int:
    count: int = connection.exec_driver_sql(f"SELECT COUNT(*) FROM log WHERE id = {id_}").scalar_one()
    return count


async def test_the_author_of_a_hidden_message_can_still_take_it_back(post: Post) -> None:
    sent = await post.send(ONE, TWO, body("secret"), "m1")
    await post.mailboxes.hide(ONE, sent.id)
    await post.retract(ONE, TWO, "m1")
    assert b"<retracted" in (await post.entries(TWO))[0].payload


@pytest.mark.parametrize("filled", [False, True])
async def test_unread_messages_are_counted_until_they_are_displayed(post: Post, filled: bool) -> None:
    for number in range(5):
        await post.send(ONE, TWO, body("x"), f"m{number}")
        await post.send(FAR, TWO, body("x"), f"f{number}")
    await post.send(ONE, TWO, f"<received xmlns='{ns.RECEIPTS}' id='q'/>", "receipt", Treatment(0))
    if filled:
        await post.filled()
    assert await post.unread(TWO) == {"u1@example.org": 5, "far@example.net": 5}
    assert await post.unread(ONE) == {"u2@example.org": 0}
    await post.displayed(TWO, ONE, "m2")
    assert await post.unread(TWO) == {"u1@example.org": 2, "far@example.net": 5}
    await post.displayed(TWO, ONE, "m1")
    await post.displayed(TWO, ONE, "unknown")
    await post.displayed(TWO, FAR, "m4")
    assert await post.unread(TWO) == {"u1@example.org": 2, "far@example.net": 5}
    await post.displayed(TWO, FAR, "f4")
    assert await post.unread(TWO) == {"u1@example.org": 2, "far@example.net": 0}
    await post.send(TWO, ONE, body("answer"), "a1")
    assert (await post.unread(TWO))["u1@example.org"] == 0
    await post.send(ONE, TWO, body("again"), "m6")
    assert (await post.unread(TWO))["u1@example.org"] == 1
    await post.retract(ONE, TWO, "m6")
    assert (await post.unread(TWO))["u1@example.org"] == 0


async def test_a_marker_of_the_other_side_reads_nothing_of_mine(post: Post) -> None:
    await post.send(ONE, TWO, body("x"), "m1")
    await post.send(TWO, ONE, body("y"), "m1")
    await post.send(ONE, TWO, body("x"), "m2")
    await post.displayed(ONE, TWO, "m1")
    assert await post.unread(TWO) == {"u1@example.org": 1}


async def test_a_position_never_goes_back_and_listeners_are_told(post: Post) -> None:
    told: list[tuple[str, str, int]] = []
    post.inbox.on_advanced.append(lambda account, peer, id_: told.append((account.jid.bare, peer, id_)))
    first = await post.send(ONE, TWO, body("x"), "m1")
    second = await post.send(ONE, TWO, body("x"), "m2")
    assert await post.inbox.read(TWO, "u1@example.org", second.id)
    assert not await post.inbox.read(TWO, "u1@example.org", first.id)
    assert await post.inbox.position(TWO, "u1@example.org") == second.id
    await post.displayed(TWO, ONE, "m1")
    await post.inbox.close()
    assert told == [("u2@example.org", "u1@example.org", second.id)]


async def test_the_shown_message_is_the_newest_that_says_something(post: Post) -> None:
    sent = await post.send(ONE, TWO, body("x"), "m1")
    await post.displayed(TWO, ONE, "m1")
    (made,) = await post.inbox.conversations(TWO, None, 9)
    assert made.shown is not None
    assert (made.shown.id, made.last.stanza_id) == (sent.id, "d-m1")


async def test_words_are_found_by_their_owners_only(post: Post) -> None:
    await post.send(ONE, TWO, body("Green tea, please"), "m1")
    await post.send(TWO, ONE, body("the tea is GREEN"), "m2")
    await post.send(THREE, FAR, body("green tea"), "m3")
    await post.send(FAR, TWO, body("thé vert à Köln 今日は"), "m4")
    await post.filled()
    await post.send(TWO, THREE, body("more green"), "m5")
    assert await post.found(ONE, "green tea") == ["m1", "m2"]
    assert await post.found(ONE, '"green tea"') == ["m1"]
    assert await post.found(TWO, "gre*") == ["m1", "m2", "m5"]
    assert await post.found(TWO, "gre") == []
    assert await post.found(THREE, "tea") == ["m3"]
    assert await post.found(TWO, "THE koln") == ["m4"]
    assert await post.found(TWO, "今日") == ["m4"]
    assert await post.found(TWO, "日今") == []
    assert await post.found(ONE, "1") == []
    page = await post.mailboxes.page(TWO, PageRequest(1, peer="u1@example.org", backwards=True, words=parse("green")))
    assert ([entry.stanza_id for entry in page.entries], page.complete) == (["m2"], False)
    assert await post.mailboxes.count(TWO, PageRequest(1, words=parse("green"))) == 3


async def test_encrypted_messages_and_fallbacks_have_no_words(post: Post) -> None:
    await post.send(ONE, TWO, body("secret") + f"<encryption xmlns='{ns.ENCRYPTION}' namespace='x'/>", "m1")
    await post.send(ONE, TWO, body("secret") + f"<encrypted xmlns='{ns.OMEMO_LEGACY}'/>", "m2")
    await post.send(ONE, TWO, body("secret") + f"<reactions xmlns='{ns.REACTIONS}' id='m1'/>", "m3")
    await post.send(ONE, TWO, f"<x xmlns='urn:example:x'>{body('secret')}</x>", "m4")
    await post.send(ONE, TWO, body("secret") + f"<replace xmlns='{ns.CORRECTION}' id='m1'/>", "m5")
    assert await post.found(TWO, "secret") == ["m5"]


async def test_words_go_with_their_messages(post: Post) -> None:
    first = await post.send(ONE, FAR, body("old secret"), "m1")
    await post.send(ONE, TWO, body("new secret"), "m2")
    assert await post.found(ONE, "secret") == ["m1", "m2"]
    await post.filled()
    await post.database.write(mailbox_removal.purge_before, first.id + 1, 100, False)
    assert await post.found(ONE, "secret") == ["m2"]
    assert await post.database.read(words_left) == 1
    await post.mailboxes.purge(ONE)
    assert await post.found(ONE, "secret") == []
    assert await post.found(TWO, "secret") == ["m2"]
    await post.mailboxes.purge(TWO)
    assert await post.database.read(words_left) == 0


def words_left(connection: Connection) -> int:
    count: int = connection.exec_driver_sql("SELECT COUNT(*) FROM search_text").scalar_one()
    return count


async def test_words_are_taken_in_steps(post: Post) -> None:
    for number in range(650):
        await post.send(
            ONE, TWO, body(f"number n{number}"), f"m{number}"
        ) if number % 50 == 0 else post.mailboxes.append(
            Message(ONE.jid, TWO.jid, Kind.CHAT, int(ALL), None, None, b"<message><body>filler</body></message>"),
            ONE,
            TWO,
        )
    await post.mailboxes.durable()
    assert not await post.search.catch_up(1)
    assert not await post.search.catch_up(1)
    assert await post.search.catch_up(1)
    assert await post.found(TWO, "n600") == ["m600"]
    assert await post.found(TWO, "n0") == ["m0"]


async def test_only_the_newest_part_of_a_conversation_is_searched_for_an_id(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SEARCHED_BACK", 3)
    for number in range(5):
        await post.send(ONE, TWO, body("x"), f"m{number}")
    await post.filled()
    await post.retract(ONE, TWO, "m0")
    await post.retract(ONE, TWO, "m4")
    shown = {entry.stanza_id: b"<retracted" in entry.payload for entry in await post.entries(ONE)}
    assert (shown["m0"], shown["m4"]) == (False, True)
