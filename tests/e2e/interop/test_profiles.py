"""Profiles as slixmpp uses them: vCards, avatars, bookmarks, private storage and what was displayed, on one and two servers."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from slixmpp import JID
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0048.stanza import Bookmarks
from slixmpp.xmlstream import ET

from homeserver.protocol import namespaces as ns
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

WITH_PROFILES = (
    *PLUGINS, "xep_0048", "xep_0049", "xep_0054", "xep_0060", "xep_0084", "xep_0163", "xep_0172", "xep_0223", "xep_0292",
    "xep_0402", "xep_0490",
)  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 100
HASH = hashlib.sha1(PNG, usedforsecurity=False).hexdigest()
ROOM = "room@rooms.example"


@asynccontextmanager
async def device(node: ParleyServer, name: str, *interests: str) -> AsyncIterator[tuple[Slix, list[Any]]]:
    """A client that wants notifications of ``interests``; the events it is told."""
    account = next(found for found in node.accounts if found.local == name)
    client = Slix(node.endpoint, account, presence=False, plugins=WITH_PROFILES)
    told: list[Any] = []

    def take(message: Any) -> None:
        told.append(message)
        client._moved.set()

    for event in ("pubsub_publish", "pubsub_retract"):
        client.xmpp.add_event_handler(event, take)
    async with client:
        for interest in interests:
            client.plugin(163).add_interest(interest)
        await client.plugin(115).update_caps(broadcast=False)
        client.xmpp.send_presence()
        await client.sees(client.jid, "available")
        yield client, told


def bare(client: Slix) -> JID:
    return JID(client.xmpp.boundjid.bare)


def nodes_of(told: list[Any]) -> list[str]:
    return [str(message["pubsub_event"]["items"]["node"]) for message in told]


async def vcard(client: Slix, of: JID) -> Any:
    answer = await client.plugin(54).get_vcard(of, cached=False, timeout=10)
    return answer["vcard_temp"]


async def publish_avatar(client: Slix) -> None:
    await client.plugin(84).publish_avatar(PNG, timeout=10)
    info = {"id": HASH, "type": "image/png", "bytes": len(PNG)}
    await client.plugin(84).publish_avatar_metadata([info], timeout=10)


def named(client: Slix, of: JID) -> str | None:
    """The avatar that the last presence of an account names."""
    seen = [found for found in client.presences if found["from"].bare == of.bare and found["type"] == "available"]
    return None if not seen else seen[-1].xml.findtext(f"{{{ns.VCARD_UPDATE}}}x/{{{ns.VCARD_UPDATE}}}photo")


async def test_vcards_of_both_shapes_across_servers(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ann") as (ann, _), device(two, "bob") as (bob, _):
        info = await ann.plugin(30).get_info(bare(ann), timeout=10)
        wanted = {
            ns.AVATAR_CONVERSION,
            ns.BOOKMARKS_CONVERSION,
            ns.BOOKMARKS_COMPAT,
            ns.BOOKMARKS_COMPAT_PEP,
            ns.DISPLAYED_ASSIST,
            ns.VCARD,
        }
        assert wanted <= set(info["disco_info"]["features"])
        with pytest.raises(IqError) as refused:
            await vcard(bob, bare(ann))
        assert refused.value.condition == "service-unavailable"
        mine = ann.plugin(54).make_vcard()
        mine["FN"] = "Ann"
        mine["NOTE"] = "about me"
        mine["PHOTO"]["TYPE"] = "image/png"
        mine["PHOTO"]["BINVAL"] = PNG
        await ann.plugin(54).publish_vcard(mine, timeout=10)
        for client in (ann, bob):
            found = await vcard(client, bare(ann))
            assert (found["FN"], found["PHOTO"]["BINVAL"]) == ("Ann", PNG)
        newer = await bob.plugin(60).get_items(bare(ann), ns.VCARD4_NODE, timeout=10)
        assert newer["pubsub"]["items"]["item"]["vcard"]["full_name"] == "Ann"
        payload = ET.fromstring(f"<vcard xmlns='{ns.VCARD4}'><fn><text>Ann the second</text></fn></vcard>")
        await ann.plugin(60).publish(None, ns.VCARD4_NODE, id="current", payload=payload, timeout=10)
        found = await vcard(bob, bare(ann))
        assert (found["FN"], found["PHOTO"]["BINVAL"]) == ("Ann the second", PNG)
        data = await bob.plugin(84).retrieve_avatar(bare(ann), HASH, timeout=10)
        assert data["pubsub"]["items"]["item"]["avatar_data"]["value"] == PNG


async def test_contacts_here_and_elsewhere_learn_of_an_avatar(one: ParleyServer, two: ParleyServer) -> None:
    async with (
        device(one, "cat") as (cat, _),
        device(one, "dan", ns.AVATAR_METADATA) as (dan, told),
        device(two, "eve", ns.AVATAR_METADATA) as (eve, away),
    ):
        await cat.befriend(dan)
        await cat.befriend(eve)
        await publish_avatar(cat)
        for client, events in ((dan, told), (eve, away)):
            await client.until(lambda events=events: ns.AVATAR_METADATA in nodes_of(events))  # type: ignore[misc]
            await client.until(lambda client=client: named(client, bare(cat)) == HASH)  # type: ignore[misc]
            found = await vcard(client, bare(cat))
            assert found["PHOTO"]["BINVAL"] == PNG
        await cat.plugin(84).stop(timeout=10)
        await eve.until(lambda: named(eve, bare(cat)) == "")


async def test_nicknames_reach_contacts(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "fay") as (fay, _), device(two, "gus", ns.NICK) as (gus, told):
        await fay.befriend(gus)
        await fay.plugin(172).publish_nick("Faye", timeout=10)
        await gus.until(lambda: ns.NICK in nodes_of(told))


async def test_bookmarks_of_two_devices_are_in_step(one: ParleyServer) -> None:
    async with device(one, "hal", ns.BOOKMARKS) as (new, told), device(one, "hal", ns.BOOKMARKS_LEGACY) as (old, seen):
        storage = new.plugin(48)
        listed = Bookmarks()
        listed.add_conference(ROOM, "me", name="Room", autojoin=True)
        await storage.set_bookmarks(listed, method="xep_0049", timeout=10)
        await new.until(lambda: ns.BOOKMARKS in nodes_of(told))
        await old.until(lambda: ns.BOOKMARKS_LEGACY in nodes_of(seen))
        item = told[-1].xml.find(f".//{{{ns.PUBSUB_EVENT}}}item")
        assert (item.get("id"), item[0].get("name"), item[0].get("autojoin")) == (ROOM, "Room", "true")
        payload = ET.fromstring(f"<conference xmlns='{ns.BOOKMARKS}' name='Other'/>")
        before = len(seen)
        await new.plugin(60).publish(None, ns.BOOKMARKS, id=ROOM, payload=payload, timeout=10)
        await old.until(lambda: len(seen) > before)
        answer = await old.plugin(48).get_bookmarks(method="xep_0049", timeout=10)
        [found] = answer["private"]["bookmarks"]["conferences"]
        assert (str(found["jid"]), found["name"]) == (ROOM, "Other")
        before = len(told)
        await new.plugin(60).retract(None, ns.BOOKMARKS, ROOM, notify="1", timeout=10)
        await new.until(lambda: len(told) > before)
        answer = await old.plugin(48).get_bookmarks(method="xep_0049", timeout=10)
        assert len(answer["private"]["bookmarks"]["conferences"]) == 0


async def test_what_was_displayed_is_told_to_the_other_device(one: ParleyServer) -> None:
    async with (
        device(one, "ida") as (phone, _),
        device(one, "ida", ns.DISPLAYED_SYNC) as (tablet, told),
        device(one, "jim") as (jim, _),
    ):
        await phone.plugin(490).flag_chat(bare(jim), "11", timeout=10)
        await tablet.until(lambda: told)
        message = phone.xmpp.make_message(mto=bare(jim), mbody="read", mtype="chat")
        message.xml.append(ET.fromstring(f"<displayed xmlns='{ns.CHAT_MARKERS}' id='m'/>"))
        note = f"<displayed xmlns='{ns.DISPLAYED_SYNC}'><stanza-id xmlns='{ns.STANZA_ID}' by='{bare(phone)}' id='12'/></displayed>"
        message.xml.append(ET.fromstring(note))
        message.send()
        await tablet.until(lambda: len(told) > 1)
        await jim.until(lambda: jim.messages)
        assert [part.tag.rpartition("}")[0][1:] for part in jim.messages[0].xml].count(ns.DISPLAYED_SYNC) == 0
        answer = await tablet.plugin(490).catch_up(timeout=10)
        [item] = answer["pubsub"]["items"]
        assert (item["id"], item["displayed"]["stanza_id"]["id"]) == (str(bare(jim)), "12")
