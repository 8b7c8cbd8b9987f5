"""Bookmarks in three places, kept in step (XEP-0402, XEP-0048, XEP-0411, XEP-0469)."""

from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import serialise
from tests.kit.fakes import FakeSession
from tests.kit.pubsub import ask, configure, done, publish, said
from tests.kit.world import World, world

NEW, OLD = ns.BOOKMARKS, ns.BOOKMARKS_LEGACY
A, B = "a@rooms.example", "b@rooms.example"
PIN = "<pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>"
WEB = "<url name='web' url='https://example.org'/>"
OPTIONS = {
    "persist_items": "true",
    "max_items": "max",
    "send_last_published_item": "never",
    "access_model": "whitelist",
}


def conference(name: str, more: str = "") -> str:
    return f"<conference xmlns='{NEW}' name='{name}' autojoin='true'><nick>me</nick>{more}</conference>"


def storage(*rooms: str, more: str = "") -> str:
    made = "".join(
        f"<conference jid='{room}' name='{room[0]}' autojoin='1'><nick>me</nick></conference>" for room in rooms
    )
    return f"<storage xmlns='{OLD}'>{made}{more}</storage>"


async def private(
    server: World, who: FakeSession, kind: str = "get", content: str = f"<storage xmlns='{OLD}'/>"
) -> Element:
    return await server.iq(who, f"<iq type='{kind}' id='p'><query xmlns='jabber:iq:private'>{content}</query></iq>")


def names(parent: Element) -> dict[str | None, str | None]:
    return {one.get("jid"): one.get("name") for one in parent.iter(f"{{{OLD}}}conference")}


async def everywhere(server: World, who: FakeSession) -> list[dict[str | None, str | None]]:
    """What clients of each kind see: names by room."""
    new = await ask(server, who, "get", f"<items node='{NEW}'/>")
    items = {item.get("id"): item[0].get("name") for item in new.iter(f"{{{ns.PUBSUB}}}item")}
    old = await ask(server, who, "get", f"<items node='{OLD}'/>")
    return [items, names(old), names(await private(server, who))]


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.session("alice")


async def test_a_new_client_adds_changes_and_removes(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish(NEW, A, conference("one"), **OPTIONS))
    assert await everywhere(server, alice) == [{A: "one"}] * 3
    await done(server, alice, publish(NEW, A, conference("two"), **OPTIONS))
    await done(server, alice, publish(NEW, B, conference("b"), **OPTIONS))
    assert await everywhere(server, alice) == [{A: "two", B: "b"}] * 3
    await done(server, alice, f"<retract node='{NEW}' notify='true'><item id='{A}'/></retract>")
    assert await everywhere(server, alice) == [{B: "b"}] * 3


async def test_an_old_client_writes_private_storage(server: World, alice: FakeSession) -> None:
    assert names(await private(server, alice)) == {}
    assert said(await private(server, alice, "set", storage(A, B, more=WEB))) == "result"
    assert await everywhere(server, alice) == [{A: "a", B: "b"}] * 3
    assert "https://example.org" in serialise(await private(server, alice))
    await done(server, alice, publish(NEW, A, conference("new name"), **OPTIONS))
    assert await everywhere(server, alice) == [{A: "new name", B: "b"}] * 3
    assert "https://example.org" in serialise(await private(server, alice))
    assert said(await private(server, alice, "set", storage(B))) == "result"
    assert await everywhere(server, alice) == [{B: "b"}] * 3


async def test_a_client_writes_the_list_of_the_node(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish(OLD, "current", storage(A, B), persist_items="true", access_model="whitelist"))
    assert await everywhere(server, alice) == [{A: "a", B: "b"}] * 3
    await done(server, alice, publish(OLD, "current", storage(B)))
    assert await everywhere(server, alice) == [{B: "b"}] * 3


async def test_extensions_survive_an_old_client(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish(NEW, A, conference("one", f"<extensions>{PIN}</extensions>"), **OPTIONS))
    await private(server, alice, "set", storage(A, B))
    answer = await ask(server, alice, "get", f"<items node='{NEW}'><item id='{A}'/></items>")
    assert PIN in serialise(answer)
    assert "name='a'" in serialise(answer)


async def test_what_is_unchanged_is_not_told_and_nothing_echoes(server: World, alice: FakeSession) -> None:
    await private(server, alice, "set", storage(A, B))
    await server.settle()
    events: list[tuple[str, list[str]]] = []
    server.pubsub.on_event.append(lambda event: events.append((event.node, [item.id for item in event.items])))
    await done(server, alice, publish(NEW, A, conference("one")))
    assert events == [(NEW, [A]), (OLD, ["current"])]
    events.clear()
    await private(server, alice, "set", storage(A, B))
    assert events == [(OLD, ["current"]), (NEW, [A])]
    events.clear()
    await private(server, alice, "set", storage(A, B))
    await everywhere(server, alice)
    assert events == []


async def test_other_devices_are_told(server: World, alice: FakeSession) -> None:
    await private(server, alice, "set", storage(A, B))
    events: list[tuple[str, str, bool]] = []
    server.pubsub.on_event.append(lambda event: events.append((event.node, event.kind.value, event.is_told)))
    await private(server, alice, "set", storage(B))
    assert (OLD, "publish", True) in events
    assert (NEW, "retract", True) in events


async def test_the_nodes_are_private(server: World, alice: FakeSession) -> None:
    await private(server, alice, "set", storage(A))
    await server.befriend("alice", "bob")
    bob = await server.session("bob")
    for node in (NEW, OLD):
        answer = await ask(server, bob, "get", f"<items node='{node}'/>", "alice@a.example")
        assert said(answer) == "not-allowed/cancel closed-node"
        opened = await ask(server, alice, "set", configure(node, access_model="open"), owner=True)
        assert said(opened) == "not-acceptable/modify"
    made = await ask(server, bob, "set", publish(NEW, A, conference("one"), access_model="open"))
    assert said(made) == "not-acceptable/modify"
    await done(server, bob, publish(NEW, A, conference("one")))
    answer = await ask(server, alice, "get", f"<items node='{NEW}'/>", "bob@a.example")
    assert said(answer) == "not-allowed/cancel closed-node"


async def test_a_node_that_goes_takes_nothing_along(server: World, alice: FakeSession) -> None:
    await private(server, alice, "set", storage(A, B))
    await done(server, alice, f"<delete node='{OLD}'/>", owner=True)
    assert await everywhere(server, alice) == [{A: "a", B: "b"}] * 3
    await done(server, alice, f"<purge node='{NEW}'/>", owner=True)
    assert await everywhere(server, alice) == [{}] * 3


async def test_a_node_for_few_items_is_widened(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish(NEW, A, conference("one"), max_items="1"))
    await private(server, alice, "set", storage(A, B))
    assert await everywhere(server, alice) == [{A: "a", B: "b"}] * 3


async def test_what_was_interrupted_is_made_up_for_when_a_client_comes(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    async with world(path) as server:
        alice = await server.session("alice")
        await private(server, alice, "set", storage(A))
        server.pubsub.on_event.remove(server.profiles.bookmarks._told)
        await done(server, alice, publish(NEW, B, conference("b")))
    async with world(path) as server:
        alice = await server.online("alice")
        assert names(await ask(server, alice, "get", f"<items node='{OLD}'/>")) == {A: "a", B: "b"}


async def test_what_names_no_room_is_left_alone(server: World, alice: FakeSession) -> None:
    await done(server, alice, publish(NEW, "not a room", "<x xmlns='urn:test'/>", **OPTIONS))
    await done(server, alice, publish(OLD, "current", "<x xmlns='urn:test'/>"))
    await done(server, alice, publish(NEW, A, conference("one"), **OPTIONS))
    answer = await ask(server, alice, "get", f"<items node='{NEW}'/>")
    assert {item.get("id") for item in answer.iter(f"{{{ns.PUBSUB}}}item")} == {A, "not a room"}
    assert names(await private(server, alice)) == {A: "one"}
