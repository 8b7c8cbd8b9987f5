"""What was displayed, published from a marker (XEP-0490 s4.5)."""

from typing import Any

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.xmpp.core_message import start_tag
from tests.kit.fakes import FakeSession, stanza
from tests.kit.pubsub import ask, configure, said
from tests.kit.world import World

MARK = "<displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>"
NODE = ns.DISPLAYED_SYNC


def note(id_: str) -> str:
    return f"<displayed xmlns='{NODE}'><stanza-id xmlns='{ns.STANZA_ID}' by='alice@a.example' id='{id_}'/></displayed>"


async def send(server: World, session: FakeSession, text: str, relay: bool = True) -> list[Any]:
    """A client sends a message, with the bytes as they came where they may be relayed."""
    made = stanza(text, session.jid)
    told: list[Any] = []
    assert made.to is not None
    raw = text.encode() if relay else None
    waiting = server.dispatcher.message(
        session, made.element, raw, made.to, start_tag(session.jid), lambda *found: told.append(found)
    )
    await server._finished(waiting)
    return told


async def notes(server: World, who: FakeSession) -> dict[str | None, str | None]:
    answer = await ask(server, who, "get", f"<items node='{NODE}'/>")
    return {item.get("id"): item[0][0].get("id") for item in answer.iter(f"{{{ns.PUBSUB}}}item")}


@pytest.fixture
async def alice(server: World) -> FakeSession:
    return await server.online("alice")


@pytest.mark.parametrize("relay", [True, False])
async def test_a_marker_with_a_note_publishes_it_and_goes_on_without(
    server: World, alice: FakeSession, relay: bool
) -> None:
    bob = await server.online("bob")
    text = f"<message to='bob@a.example' type='chat' id='x'>{MARK}{note('1')}</message>"
    [(stored, error)] = await send(server, alice, text, relay)
    assert error is None
    assert await notes(server, alice) == {"bob@a.example": "1"}
    [(delivered, _, _)] = bob.delivered
    assert b"chat-markers" in delivered.message.payload
    assert NODE.encode() not in stored.message.payload
    assert NODE.encode() not in delivered.message.payload
    await send(server, alice, f"<message to='bob@a.example' type='chat'>{MARK}{note('2')}</message>", relay)
    assert await notes(server, alice) == {"bob@a.example": "2"}


async def test_all_conversations_are_kept_and_nobody_else_reads_them(server: World, alice: FakeSession) -> None:
    for name in ("bob", "carol", "dave"):
        await server.account(name)
        await send(server, alice, f"<message to='{name}@a.example' type='chat'>{MARK}{note('1')}</message>")
    assert len(await notes(server, alice)) == 3
    bob = await server.session("bob")
    await server.befriend("alice", "bob")
    answer = await ask(server, bob, "get", f"<items node='{NODE}'/>", "alice@a.example")
    assert said(answer) == "not-allowed/cancel closed-node"
    opened = await ask(server, alice, "set", configure(NODE, access_model="presence"), owner=True)
    assert said(opened) == "not-acceptable/modify"


async def test_a_note_that_is_refused_does_not_stop_the_message(server: World, alice: FakeSession) -> None:
    bob = await server.online("bob")
    big = f"<displayed xmlns='{NODE}'>{'x' * 200_000}</displayed>"
    await send(server, alice, f"<message to='bob@a.example' type='chat'>{MARK}{big}</message>")
    assert len(bob.delivered) == 1
    assert said(await ask(server, alice, "get", f"<items node='{NODE}'/>")) == "item-not-found/cancel"


async def test_only_clients_have_their_notes_published(server: World, alice: FakeSession) -> None:
    await server.remote("eve@far.example/x", f"<message to='alice@a.example' type='chat'>{MARK}{note('1')}</message>")
    assert said(await ask(server, alice, "get", f"<items node='{NODE}'/>")) == "item-not-found/cancel"
