"""slixmpp against our server: TLS, login, stream management, history, copies, and everything across two domains."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import slixmpp
from slixmpp.exceptions import IqError

from tests.kit.node import ParleyServer
from tests.kit.proxy import FaultProxy
from tests.kit.server import Account, Security
from tests.kit.slix import LoginRefused, Slix


def device(node: ParleyServer, name: str, resource: str = "", security: Security = "starttls", **options: Any) -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint_for(security), account, resource, **options)


@pytest.mark.parametrize("security", ["starttls", "direct"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
async def test_login(one: ParleyServer, security: Security, mechanism: str) -> None:
    settings = {"feature_mechanisms": {"use_mech": mechanism}}
    client = device(one, "ann", "door", security)
    client.xmpp.plugin["feature_mechanisms"].use_mech = mechanism
    async with client:
        assert client.jid == "ann@one.example/door"
        assert client.xmpp.plugin["feature_mechanisms"].mech.name == mechanism, settings
        await client.settled()


async def test_a_wrong_password_is_refused(one: ParleyServer) -> None:
    client = Slix(one.endpoint, Account("ann@one.example", "guess"))
    with pytest.raises(LoginRefused):
        async with client:
            pass
    client.cut()


async def test_both_ways_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ann") as ann, device(two, "bob") as bob:
        sent = ann.say("bob@two.example", "over there?")
        await bob.said("over there?")
        (message,) = bob.messages
        assert (str(message["from"]), message["id"], message["type"]) == (ann.jid, sent, "chat")
        assert message["stanza_id"]["by"] == "bob@two.example"
        bob.say(ann.jid, "over here")
        await ann.said("over here")
        assert await ann.texts("bob@two.example") == ["over there?", "over here"]
        assert await bob.texts("ann@one.example") == ["over there?", "over here"]
        (first, _) = await bob.history("ann@one.example")
        assert first["id"] == message["stanza_id"]["id"]


async def test_the_second_and_third_device_see_everything(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "cat", "desk") as desk, device(one, "cat", "phone") as phone, device(two, "dan") as dan:
        desk.say("dan@two.example", "from the desk")
        await dan.said("from the desk")
        dan.say(desk.jid, "to the desk only")
        await desk.said("to the desk only")
        dan.say("cat@one.example", "to all")
        await phone.until(lambda: len(phone.copies) == 2 and phone.bodies == ["to all"])
        told = [(way, str(copy["body"])) for way, copy in phone.copies]
        assert told == [("sent", "from the desk"), ("received", "to the desk only")]
        async with device(one, "cat", "third") as third:
            everything = ["from the desk", "to the desk only", "to all"]
            assert await third.texts("dan@two.example") == everything
            assert await phone.texts() == everything
            assert await dan.texts() == everything


async def test_roster_and_presence_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "eve") as eve, device(two, "fay", "a") as fay:
        await eve.befriend(fay)
        fay.xmpp.send_presence(pshow="away", pstatus="tea")
        assert (await eve.sees(fay.jid, "away"))["status"] == "tea"
        async with device(two, "fay", "b") as second:
            await second.sees(eve.jid, "available")
            await eve.sees(second.jid, "available")
        await eve.sees(second.jid, "unavailable")
        async with device(one, "eve", "late") as late:
            assert (await late.sees(fay.jid, "away"))["status"] == "tea"  # what the probe found
        assert eve.xmpp.client_roster["fay@two.example"]["subscription"] == "both"
        eve.presences.clear()
        eve.xmpp.send_presence_subscription(pto="fay@two.example", ptype="unsubscribe")
        await eve.sees(fay.jid, "unavailable")
        await fay.sees("eve@one.example", "unsubscribe")
        assert fay.xmpp.client_roster["eve@one.example"]["subscription"] == "to"


async def test_questions_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "gus") as gus, device(two, "hal") as hal:
        await gus.befriend(hal)
        person, server = slixmpp.JID(hal.jid), slixmpp.JID("two.example")
        assert await gus.plugin(199).ping(person, timeout=10) >= 0
        assert await gus.plugin(199).ping(server, timeout=10) >= 0
        info = await gus.plugin(30).get_info(jid=person, timeout=10)
        assert "urn:xmpp:ping" in info["disco_info"]["features"]
        info = await gus.plugin(30).get_info(jid=server, timeout=10)
        assert ("server", "im") in {(found[0], found[1]) for found in info["disco_info"]["identities"]}
        version = await gus.plugin(92).get_version(person, timeout=10)
        assert version["software_version"]["name"]
        version = await gus.plugin(92).get_version(server, timeout=10)
        assert version["software_version"]["name"] == "Parley"
        time = await gus.plugin(202).get_entity_time(server, timeout=10)
        assert time.xml.findtext("{urn:xmpp:time}time/{urn:xmpp:time}utc", "").endswith("Z")
        assert (await gus.plugin(12).get_last_activity(server, timeout=10))["last_activity"]["seconds"] >= 0
        assert (await gus.plugin(12).get_last_activity(slixmpp.JID("hal@two.example"), timeout=10))["last_activity"][
            "seconds"
        ] == 0


async def test_a_stranger_is_told_nothing_by_the_other_domain(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ann") as ann, device(two, "cat") as cat:
        answers = []
        for address in (cat.jid, "cat@two.example/none", "nobody@two.example/none"):
            with pytest.raises(IqError) as refused:
                await ann.plugin(199).send_ping(slixmpp.JID(address), timeout=10)
            answers.append((refused.value.condition, refused.value.etype))
        assert answers == [("service-unavailable", "cancel")] * 3


async def test_chat_states_pass_and_are_not_kept(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ida") as ida, device(two, "jim") as jim:
        message = ida.xmpp.make_message(mto=slixmpp.JID(jim.jid), mtype="chat")
        message["chat_state"] = "composing"
        message.send()
        await jim.until(lambda: jim.states)
        assert jim.states == [(ida.jid, "composing")]
        assert await jim.texts() == []
        assert await ida.texts() == []


async def test_a_message_to_nobody_comes_back_from_the_other_domain(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "kim") as kim:
        sent = kim.say("nobody@two.example", "hello?")
        await kim.until(lambda: kim.messages)
        (answer,) = kim.messages
        assert (answer["type"], answer["id"], str(answer["from"])) == ("error", sent, "nobody@two.example")
        assert answer["error"]["condition"] == "service-unavailable"


async def test_a_message_waits_and_comes_once(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "kim") as kim:
        kim.say("leo@two.example", "while you were away")
        kim.say("leo@two.example", "and again")
        await kim.settled()
        async with device(two, "leo", "watch", presence=False) as watch:
            while len(await watch.texts()) < 2:
                await watch.settled()
        async with device(two, "leo", "a") as leo:
            await leo.said("while you were away", "and again")
            assert all(message["delay"]["stamp"] for message in leo.messages)
            ids = [found["id"] for found in await leo.history()]
            assert [message["stanza_id"]["id"] for message in leo.messages] == ids
            leo.plugin(198).send_ack()
            await leo.settled()
        async with device(two, "leo", "b") as leo:
            kim.say("leo@two.example", "now you are here")
            await leo.said("now you are here")


async def test_what_was_read_from_the_archive_is_not_delivered_again(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "mia") as mia:
        mia.say("ned@two.example", "once")
        await mia.settled()
        async with device(two, "ned", presence=False) as ned:
            while await ned.texts() != ["once"]:
                await ned.settled()
            ned.xmpp.send_presence()
            mia.say("ned@two.example", "live")
            await ned.said("live")


async def test_resumption_after_the_connection_was_lost(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "oda") as oda, device(two, "pia") as pia:
        await oda.befriend(pia)
        bound = oda.jid
        oda.say("pia@two.example", "before")
        await pia.said("before")
        oda.xmpp.abort()
        await oda.cut_off()
        pia.say("oda@one.example", "while it was gone")
        await pia.settled()
        oda.xmpp.connect(one.endpoint.host, one.endpoint.port)
        await oda.until(lambda: oda.resumed == 1)
        await oda.said("while it was gone")
        assert oda.jid == bound
        oda.say("pia@two.example", "after")
        await pia.said("before", "after")
        assert [seen for seen in pia.presences if seen["type"] == "unavailable"] == []


async def test_what_was_sent_into_a_dead_connection_arrives_after_resumption(
    one: ParleyServer, two: ParleyServer
) -> None:
    account = next(found for found in one.accounts if found.local == "dan")
    async with (
        FaultProxy(one.endpoint.port) as line,
        Slix(replace(one.endpoint, port=line.port), account) as dan,
        device(two, "eve") as eve,
    ):
        dan.say("eve@two.example", "1")
        await eve.said("1")
        await dan.settled()
        line.freeze()
        dan.say("eve@two.example", "2")
        eve.say("dan@one.example", "3")
        await eve.settled()
        await dan.until(dan.xmpp.waiting_queue.empty)
        line.reset()
        await dan.cut_off()
        line.thaw()
        dan.xmpp.connect("127.0.0.1", line.port)
        await dan.until(lambda: dan.resumed == 1)
        await eve.said("1", "2")
        await dan.said("3")
        dan.plugin(198).request_ack()
        await dan.until(lambda: not dan.plugin(198).unacked_queue)
        assert sorted(await dan.texts("eve@two.example")) == ["1", "2", "3"]
        assert sorted(await eve.texts("dan@one.example")) == ["1", "2", "3"]


async def test_client_state(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "fay") as fay, device(two, "gus") as gus:
        await fay.befriend(gus)
        fay.plugin(352).send_inactive()
        await fay.settled()
        fay.presences.clear()
        for show in ("away", "xa"):
            gus.xmpp.send_presence(pshow=show)
        await gus.plugin(199).ping(slixmpp.JID("one.example"), timeout=10)  # behind the presences on their way
        gus.say("fay@one.example", "wake up")
        await fay.said("wake up")
        assert [seen["type"] for seen in fay.presences] == ["xa"]
        gus.xmpp.send_presence(pshow="dnd")
        await gus.plugin(199).ping(slixmpp.JID("one.example"), timeout=10)
        assert [seen["type"] for seen in fay.presences] == ["xa"]
        fay.plugin(352).send_active()
        await fay.sees(gus.jid, "dnd")


CONTENT = (
    "<body xml:lang='de'>a &lt;b&gt; &amp; \u00e4\U0001f600 'single' \"double\"&#10;next&#13;line ]]&gt;</body>"
    "<x:outer xmlns:x='urn:example:one' xmlns:y='urn:example:two' y:mark='1'><y:inner plain='&apos;&quot;&#9;'>t<x:leaf/>u"
    "</y:inner></x:outer><encrypted xmlns='urn:example:three'><header xmlns=''/></encrypted>"
)


def content(message: Any) -> bytes:
    """What a message holds, less what servers add."""
    kept = [part for part in message if part.tag.rpartition("}")[2] not in ("stanza-id", "delay")]
    return b"".join(ET.tostring(part) for part in kept)


async def test_content_arrives_as_it_was_sent(one: ParleyServer, two: ParleyServer) -> None:
    sent = content(ET.fromstring(f"<message xmlns='jabber:client'>{CONTENT}</message>"))
    async with device(one, "hal", "a") as hal, device(one, "hal", "b") as copied, device(two, "ida") as ida:
        hal.xmpp.send_raw(f"<message to='ida@two.example' type='chat' id='c1' xml:lang='en'>{CONTENT}</message>")
        await ida.until(lambda: ida.messages)
        assert content(ida.messages[0].xml) == sent
        await copied.until(lambda: copied.copies)
        assert content(copied.copies[0][1].xml) == sent
        for owner in (hal, ida):
            (found,) = await owner.history()
            assert content(found["forwarded"]["stanza"].xml) == sent
        await hal.settled()
    async with device(one, "hal", "c") as hal:
        hal.xmpp.send_raw(f"<message to='jim@two.example' type='chat' id='c2' xml:lang='en'>{CONTENT}</message>")
        await hal.settled()
        async with device(two, "jim") as jim:
            await jim.until(lambda: jim.messages)
            assert content(jim.messages[0].xml) == sent
