"""Notifications as another program's clients get them (XEP-0163, XEP-0115): own devices, contacts here and elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import slixmpp
from slixmpp.xmlstream import ET

from homeserver.protocol import namespaces as ns
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

MOOD = "http://jabber.org/protocol/mood"
Told = list[tuple[str, str]]


@contextlib.asynccontextmanager
async def device(node: ParleyServer, name: str, *interests: str) -> AsyncIterator[tuple[Slix, Told]]:
    """A client that wants notifications of ``interests``; what it is told, as sender and text of the mood."""
    account = next(found for found in node.accounts if found.local == name)
    client = Slix(node.endpoint, account, presence=False, plugins=(*PLUGINS, "xep_0060", "xep_0163"))
    told: Told = []

    def take(message: Any) -> None:
        item = message["pubsub_event"]["items"]["item"]
        told.append((str(message["from"]), "".join(item["payload"].itertext())))
        client._moved.set()

    client.xmpp.add_event_handler("pubsub_publish", take)
    async with client:
        await show(client, *interests)
        yield client, told


async def show(client: Slix, *interests: str) -> None:
    """Become available, wanting notifications of these nodes."""
    for interest in interests:
        client.xmpp.plugin["xep_0163"].add_interest(interest)
    await client.xmpp.plugin["xep_0115"].update_caps(broadcast=False)
    client.xmpp.send_presence()
    await client.sees(client.jid, "available")


async def publish(client: Slix, text: str, access: str = "") -> None:
    """Publish a mood, to a node with an access model where one is given."""
    payload = ET.Element(f"{{{MOOD}}}mood")
    ET.SubElement(payload, f"{{{MOOD}}}text").text = text
    options = None
    if access:
        options = client.plugin(4).make_form(ftype="submit")
        options.add_field(var="FORM_TYPE", ftype="hidden", value=ns.PUBSUB_PUBLISH_OPTIONS)
        options.add_field(var="pubsub#access_model", value=access)
    await client.plugin(60).publish(None, MOOD, id="current", payload=payload, options=options, timeout=10)


async def test_own_devices_and_contacts_are_told_if_they_want(one: ParleyServer) -> None:
    async with (
        device(one, "ann", MOOD) as (ann, own),
        device(one, "ann", MOOD) as (tablet, other),
        device(one, "bob", MOOD) as (bob, friend),
        device(one, "cat") as (cat, deaf),
    ):
        await ann.befriend(bob)
        await ann.befriend(cat)
        await publish(ann, "happy")
        sender = ann.xmpp.boundjid.bare
        for client, told in ((ann, own), (tablet, other), (bob, friend)):
            await client.until(lambda told=told: told == [(sender, "happy")])  # type: ignore[misc]
        await cat.settled()
        assert deaf == []
        async with device(one, "bob", MOOD) as (late, newest):
            await late.until(lambda: newest == [(sender, "happy")])
        await publish(ann, "sad")
        await bob.until(lambda: friend[-1] == (sender, "sad"))
        assert [len(told) for told in (own, other, friend)] == [2, 2, 2]


async def test_a_contact_on_another_server_is_told(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "dan", MOOD) as (dan, _), device(two, "eve", MOOD) as (eve, told):
        await publish(dan, "unseen")
        await dan.befriend(eve)
        sender = dan.xmpp.boundjid.bare
        await eve.until(lambda: told == [(sender, "unseen")])
        await publish(dan, "happy")
        await eve.until(lambda: told[1:] == [(sender, "happy")])
        eve.xmpp.send_presence(ptype="unavailable")
        await dan.sees(eve.jid, "unavailable")
        await publish(dan, "later")
        await eve.settled()
        await show(eve, MOOD)
        await eve.until(lambda: told[2:] == [(sender, "later")])


async def test_a_subscriber_is_told_without_being_a_contact(one: ParleyServer, two: ParleyServer) -> None:
    """XEP-0163 s4.3.2: a client here and one elsewhere that say nothing of an interest, by their bare addresses."""
    async with device(one, "mia") as (mia, _), device(one, "ned") as (ned, near), device(two, "oda") as (oda, far):
        await publish(mia, "first", "open")
        sender = slixmpp.JID(mia.xmpp.boundjid.bare)
        for client, told in ((ned, near), (oda, far)):
            await client.plugin(60).subscribe(sender, MOOD, bare=True, timeout=10)
            await client.until(lambda told=told: told == [(str(sender), "first")])  # type: ignore[misc]
        await publish(mia, "second")
        for client, told in ((ned, near), (oda, far)):
            await client.until(lambda told=told: told[1:] == [(str(sender), "second")])  # type: ignore[misc]


async def test_nobody_else_is_told_of_what_is_private(one: ParleyServer, two: ParleyServer) -> None:
    """A whitelist of nobody; the own devices are told."""
    async with (
        device(one, "fay", MOOD) as (fay, own),
        device(one, "gus", MOOD) as (gus, friend),
        device(two, "hal", MOOD) as (hal, away),
        device(one, "ida", MOOD) as (ida, stranger),
    ):
        await fay.befriend(gus)
        await fay.befriend(hal)
        await publish(fay, "secret", "whitelist")
        await fay.until(lambda: [text for _, text in own] == ["secret"])
        # what is sent after it comes after it
        for client in (gus, hal, ida):
            fay.say(client.xmpp.boundjid.bare, "end")
            await client.said("end")
        assert [friend, away, stranger] == [[], [], []]


async def test_notifications_are_neither_stored_nor_kept(one: ParleyServer) -> None:
    async with device(one, "jim", MOOD) as (jim, own), device(one, "kim", MOOD) as (kim, told):
        await jim.befriend(kim)
        await publish(jim, "happy")
        await kim.until(lambda: told)
        await jim.until(lambda: own)
        jim.say(kim.xmpp.boundjid.bare, "text")
        await kim.said("text")
        assert await kim.texts() == ["text"]
        assert [str(found["forwarded"]["stanza"]["type"]) for found in await kim.history()] == ["chat"]


async def test_many_nodes_come_at_once(one: ParleyServer) -> None:
    """All newest items of an account with twenty nodes, once each."""
    nodes = [f"urn:example:{number}" for number in range(20)]
    async with device(one, "leo") as (leo, _):
        for node in nodes:
            payload = ET.Element(f"{{{node}}}x")
            payload.text = node
            await leo.plugin(60).publish(None, node, payload=payload, timeout=10)
    async with device(one, "leo", *nodes) as (again, told):
        async with asyncio.timeout(20):
            await again.until(lambda: len(told) >= len(nodes))
        assert sorted(text for _, text in told) == sorted(nodes)
        assert {sender for sender, _ in told} == {slixmpp.JID(again.jid).bare}
