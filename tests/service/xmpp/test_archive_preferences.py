"""Whose messages are archived (XEP-0441), each side for itself; and messages from strangers."""

from pathlib import Path
from typing import Any

import pytest

from config.feature_settings import PrivacySettings
from homeserver.domain.messages import PageRequest, Relation
from homeserver.domain.privacy import Strangers
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.xmpp import render
from tests.kit.fakes import FakeSession, short
from tests.kit.world import World, world

ALICE, BOB = "alice@a.example", "bob@a.example"
FAR = "eve@far.example"


async def prefer(server: World, session: FakeSession, default: str, always: str = "", never: str = "") -> Any:
    lists = "".join(
        f"<{name}>{''.join(f'<jid>{jid}</jid>' for jid in jids.split())}</{name}>"
        for name, jids in (("always", always), ("never", never))
    )
    text = f"<iq type='set' id='p'><prefs xmlns='urn:xmpp:mam:2' default='{default}'>{lists}</prefs></iq>"
    return await server.iq(session, text)


def shown(answer: Any) -> tuple[str, list[str], list[str]]:
    prefs = answer[0]
    return prefs.get("default"), *([jid.text for jid in prefs[place]] for place in (0, 1))


async def test_get_and_set(server: World) -> None:
    alice = await server.session("alice")
    get = "<iq type='get' id='g'><prefs xmlns='urn:xmpp:mam:2'/></iq>"
    assert shown(await server.iq(alice, get)) == ("always", [], [])
    told = await prefer(server, alice, "roster", "Romeo@Far.example b@far.example/x", "c@far.example b@far.example/x")
    expected = ("roster", ["b@far.example/x", "romeo@far.example"], ["c@far.example"])
    assert shown(told) == shown(await server.iq(alice, get)) == expected
    server.privacy._loaded.clear()
    await server.privacy.start()
    assert shown(await server.iq(alice, get)) == expected
    await prefer(server, alice, "always")
    assert not server.privacy.is_used


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<prefs xmlns='urn:xmpp:mam:2'/>", "bad-request"),
        ("<prefs xmlns='urn:xmpp:mam:2' default='maybe'/>", "bad-request"),
        ("<prefs xmlns='urn:xmpp:mam:2' default='never'><never><jid>@</jid></never></prefs>", "jid-malformed"),
    ],
)
async def test_what_is_refused(server: World, text: str, error: str) -> None:
    alice = await server.session("alice")
    assert f"iq error {error} " in short(await server.iq(alice, f"<iq type='set' id='p'>{text}</iq>"))


async def test_others_are_told_nothing(server: World) -> None:
    alice, _ = await server.session("alice"), await server.account("bob")
    for kind, payload in (
        ("get", "<prefs xmlns='urn:xmpp:mam:2'/>"),
        ("set", "<prefs xmlns='urn:xmpp:mam:2' default='never'/>"),
    ):
        answers = [
            short(await server.iq(alice, f"<iq type='{kind}' id='p' to='{to}'>{payload}</iq>")).replace(to, "x")
            for to in (BOB, "nobody@a.example")
        ]
        assert answers == ["iq error service-unavailable x -> alice@a.example/phone"] * 2


async def test_the_sides_of_a_message_are_kept_apart(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await prefer(server, alice, "never")
    [[stored, _]] = await server.write(alice, BOB, "one", origin="1")
    assert (await server.archive("alice"), await server.archive("bob")) == ([], ["one"])
    [[reply, _]] = await server.write(bob, ALICE, "two")
    assert (await server.archive("alice"), await server.archive("bob")) == ([], ["one", "two"])
    assert (await server.mailboxes.find(bob.account, reply.id)) is not None
    assert [relation for _, relation, _ in (*alice.delivered, *bob.delivered)] == [Relation.DIRECT, Relation.DIRECT]
    assert b"stanza-id" in render.direct(bob.delivered[0][0], BOB)
    assert b"stanza-id" not in render.direct(alice.delivered[0][0], ALICE)
    # A resend is recognised although the sender keeps nothing.
    await server.write(alice, BOB, "one", origin="1")
    assert await server.archive("bob") == ["one", "two"]
    assert stored.id
    await prefer(server, bob, "never")
    await server.write(alice, BOB, "three", origin="3")
    await server.write(alice, BOB, "three", origin="3")
    assert [stored.message.payload.count(b"three") for stored, _, _ in bob.delivered] == [0, 1]
    assert (await server.archive("alice"), await server.archive("bob")) == ([], ["one", "two"])


async def test_what_is_not_archived_waits_until_it_is_delivered(server: World) -> None:
    alice, bob = await server.online("alice"), await server.online("bob")
    await prefer(server, bob, "never")
    server.leave(bob)
    await server.write(alice, BOB, "later")
    assert await server.archive("alice") == ["later"]
    assert await server.archive("bob") == []
    assert await server.waiting("bob") == ["later"]
    assert await server.waiting("alice") == []
    page = await server.mailboxes.page(alice.account, PageRequest(10, peer=BOB))
    assert len(page.entries) == 1
    again = await server.online("bob", "tablet")
    while not again.delivered:
        await server.settle()
    assert again.delivered[0][2]


async def test_copies_come_whoever_keeps_what(server: World) -> None:
    alice, other, bob = await server.online("alice"), await server.online("alice", "b"), await server.online("bob")
    other.wants_copies = True
    await prefer(server, alice, "never")
    await server.write(alice, BOB, "x")
    await server.write(bob, f"{ALICE}/phone", "y")
    assert [relation for _, relation, _ in other.delivered] == [Relation.SENT_ELSEWHERE, Relation.RECEIVED_ELSEWHERE]
    assert b"stanza-id" not in render.carbon(*other.delivered[0][:2], ALICE, "x")


async def test_other_servers(server: World) -> None:
    alice = await server.online("alice")
    await prefer(server, alice, "always", never=FAR)
    [[stored, error]] = await server.write(alice, FAR, "out", origin="1")
    assert (stored.id, error) == (0, None)
    assert len(server.outbox.durable) == 1
    assert [
        [found.id for found, _ in await server.write(alice, FAR, "out", origin="1")],
        len(server.outbox.durable),
    ] == [[0], 1]
    await server.remote(f"{FAR}/x", f"<message to='{ALICE}' type='chat'><body>in</body></message>")
    assert len(alice.delivered) == 1
    assert await server.archive("alice") == []
    await server.write(alice, "else@far.example", "kept")
    assert await server.archive("alice") == ["kept"]


async def test_only_contacts(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob = await server.online("alice"), await server.online("bob")
    cat = await server.online("cat")
    await prefer(server, alice, "roster")
    await server.write(bob, ALICE, "friend")
    await server.write(cat, ALICE, "stranger")
    assert await server.archive("alice") == ["friend"]
    await server.contacts.set(alice.account, cat.account.jid)
    await server.write(cat, ALICE, "friend now")
    assert await server.archive("alice") == ["friend", "friend now"]


async def test_strangers_are_refused_until_they_are_written_to(server: World) -> None:
    await server.befriend("alice", "bob")
    alice, bob, cat = [await server.online(name) for name in ("alice", "bob", "cat")]
    await server.privacy.set_strangers(alice.account, Strangers.REFUSE)
    await server.write(cat, ALICE, "hello")
    await server.remote(f"{FAR}/x", f"<message to='{ALICE}' type='chat'><body>far</body></message>")
    refused = [short(element) for element in cat.take()]
    assert refused == [f"error service-unavailable {ALICE} -> cat@a.example/phone"]
    await server.write(bob, ALICE, "friend")
    await server.write(alice, f"{ALICE}", "self")
    assert await server.archive("alice") == ["friend", "self"]
    await server.write(alice, "cat@a.example", "who are you?")
    await server.write(cat, ALICE, "cat")
    assert (await server.archive("alice"))[-1] == "cat"
    # The archive remembers it when memory does not.
    server.privacy._written.clear()
    server.privacy._loaded.clear()
    await server.write(cat, ALICE, "still cat")
    assert (await server.archive("alice"))[-1] == "still cat"
    await server.send(alice, "<presence to='room@far.example/alice'/>")
    await server.remote("room@far.example/dan", f"<message to='{ALICE}' type='chat'><body>psst</body></message>")
    assert (await server.archive("alice"))[-1] == "psst"


async def test_strangers_are_marked(tmp_path: Path) -> None:
    async with world(tmp_path / "parley.db", privacy=PrivacySettings(strangers="mark")) as server:
        alice, cat = await server.online("alice"), await server.online("cat")
        await server.write(cat, ALICE, "hello")
        await server.remote(f"{FAR}/x", f"<message to='{ALICE}' type='chat'><body>far</body></message>")
        marks = [ns.PARLEY_STRANGER.encode() in stored.message.payload for stored, _, _ in alice.delivered]
        assert marks == [True, True]
        assert await server.archive("alice") == ["hello", "far"]
        page = await server.mailboxes.page(cat.account, PageRequest(10))
        assert ns.PARLEY_STRANGER.encode() not in page.entries[0].payload
        await server.privacy.set_strangers(alice.account, Strangers.OFF)
        await server.write(cat, ALICE, "again")
        assert ns.PARLEY_STRANGER.encode() not in alice.delivered[-1][0].message.payload
        await server.write(alice, "cat@a.example", "hi")
        assert ns.PARLEY_STRANGER.encode() not in cat.delivered[-1][0].message.payload
        await server.privacy.set_strangers(alice.account, None)
        dan = await server.online("dan")
        await server.write(dan, ALICE, "dan")
        assert ns.PARLEY_STRANGER.encode() in alice.delivered[-1][0].message.payload
        await server.contacts.request(alice.account, JID.parse("dan@a.example"))
        await server.write(dan, ALICE, "dan")
        assert ns.PARLEY_STRANGER.encode() not in alice.delivered[-1][0].message.payload
