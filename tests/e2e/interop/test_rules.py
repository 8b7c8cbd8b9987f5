"""RFC 6121 between two domains as slixmpp sees it: who gets what, who is refused, who is told of an end."""

from typing import Any

import pytest
import slixmpp
from slixmpp.exceptions import IqError

from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

UNMANAGED = tuple(name for name in PLUGINS if name != "xep_0198")


def device(node: ParleyServer, name: str, resource: str = "", **options: Any) -> Slix:
    return Slix(node.endpoint, next(found for found in node.accounts if found.local == name), resource, **options)


def refusals(client: Slix) -> list[tuple[str, str]]:
    """Errors to messages: from whom, and the condition."""
    return [(str(found["from"]), found["error"]["condition"]) for found in client.messages if found["type"] == "error"]


async def test_a_domain_that_is_not_there(one: ParleyServer) -> None:
    async with device(one, "ann") as ann:
        with pytest.raises(IqError) as refused:
            await ann.plugin(199).send_ping(slixmpp.JID("nowhere.invalid"), timeout=20)
        assert refused.value.condition in ("remote-server-not-found", "remote-server-timeout")


async def test_a_message_to_oneself_is_kept_once(one: ParleyServer) -> None:
    async with device(one, "bob", "a") as first, device(one, "bob", "b") as second:
        first.say("bob@one.example", "a note")
        await second.said("a note")
        await first.said("a note")
        await first.settled()
        assert await first.texts() == ["a note"]
        assert await first.texts("bob@one.example") == ["a note"]
        assert (first.copies, second.copies) == ([], [])


async def test_receipts(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "cat") as cat, device(two, "dan") as dan:
        told: list[str] = []
        cat.xmpp.add_event_handler("receipt_received", lambda found: told.append(found["receipt"]))
        message = cat.xmpp.make_message(mto=slixmpp.JID("dan@two.example"), mbody="got it?", mtype="chat")
        message["request_receipt"] = True
        cat.xmpp.add_event_handler("receipt_received", lambda _: cat._moved.set())
        message.send()
        await dan.said("got it?")
        await cat.until(lambda: told)
        assert told == [message["id"]]


async def test_a_resource_that_is_gone(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "eve") as eve, device(two, "fay", "here") as fay:
        eve.say("fay@two.example/gone", "chat goes to the others")
        await fay.said("chat goes to the others")
        eve.say("fay@two.example", "an account is no group", "groupchat")
        await eve.until(lambda: refusals(eve))
        assert refusals(eve) == [("fay@two.example", "service-unavailable")]
        eve.say("fay@two.example/gone", "a headline for one resource", "headline")
        eve.say("fay@two.example", "a headline for all", "headline")
        await fay.said("chat goes to the others", "a headline for all")


async def test_what_waits_and_what_does_not(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "gus") as gus:
        for kind in ("headline", "normal", "chat"):
            gus.say("hal@two.example", kind, kind)
        await gus.settled()
        async with device(two, "hal", "watch", presence=False) as watch:
            while len(await watch.texts()) < 2:
                await watch.settled()
        async with device(two, "hal") as hal:
            await hal.said("normal", "chat")


async def test_a_client_without_stream_management_that_is_cut_off(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ida") as ida, device(two, "jim", plugins=UNMANAGED) as jim:
        await ida.befriend(jim)
        jim.xmpp.abort()
        await ida.sees(jim.jid, "unavailable")
        ida.say("jim@two.example", "later then")
        await ida.settled()
        async with device(two, "jim", plugins=UNMANAGED) as again:
            await again.said("later then")


async def test_a_request_waits_and_is_refused(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "kim") as kim:
        kim.xmpp.send_presence_subscription(pto="leo@two.example", ptype="subscribe")
        await kim.settled()
        async with device(two, "leo") as leo:
            await leo.sees("kim@one.example", "subscribe")
            leo.xmpp.send_presence(pto="kim@one.example", ptype="unsubscribed")
            await kim.sees("leo@two.example", "unsubscribed")
            assert kim.xmpp.client_roster["leo@two.example"]["subscription"] == "none"
            assert not kim.xmpp.client_roster["leo@two.example"]["pending_out"]
        async with device(two, "leo") as leo:
            await leo.settled()
            assert [seen for seen in leo.presences if seen["type"] == "subscribe"] == []


async def test_directed_presence_lasts_until_the_end(one: ParleyServer, two: ParleyServer) -> None:
    async with device(two, "ned") as ned:
        async with device(one, "mia") as mia:
            mia.xmpp.send_presence(pto=ned.jid, pshow="chat")
            await ned.sees(mia.jid, "chat")
            assert await ned.plugin(199).ping(slixmpp.JID(mia.jid), timeout=10) >= 0
        await ned.sees(mia.jid, "unavailable")
        with pytest.raises(IqError):
            await ned.plugin(199).send_ping(slixmpp.JID(mia.jid), timeout=10)


async def test_a_contact_that_is_removed(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "oda") as oda, device(two, "pia") as pia:
        await oda.befriend(pia)
        await oda.xmpp.del_roster_item("pia@two.example")
        await pia.sees("oda@one.example", "unsubscribe")
        await pia.sees("oda@one.example", "unsubscribed")
        await pia.sees(oda.jid, "unavailable")
        await pia.settled()
        assert pia.xmpp.client_roster["oda@one.example"]["subscription"] == "none"
        with pytest.raises(IqError):
            await pia.plugin(199).send_ping(slixmpp.JID(oda.jid), timeout=10)


async def test_a_resource_is_taken_over(one: ParleyServer) -> None:
    async with device(one, "ann", "same") as first:
        ends: list[str] = []
        first.xmpp.add_event_handler("stream_error", lambda error: ends.append(error["condition"]))
        try:
            async with device(one, "ann", "same") as second:
                await second.settled()
                if second.jid == first.jid:
                    await first.cut_off()
                    assert ends == ["conflict"]
                else:
                    await first.settled()
        finally:
            first.xmpp.cancel_connection_attempt()
