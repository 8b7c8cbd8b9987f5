"""History as clients use it: retraction, correction, reactions, replies, markers, inbox, search, counts."""

from typing import Any

import pytest
import slixmpp
from slixmpp.xmlstream import ET

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from tests.e2e.interop.test_disco import raw
from tests.kit.client_stream import RawClient
from tests.kit.node import ParleyServer
from tests.kit.slix import PLUGINS, Slix

MORE = (*PLUGINS, "xep_0308", "xep_0333", "xep_0334", "xep_0424", "xep_0428", "xep_0444", "xep_0461")
FIELD = f"{{{ns.FULL_TEXT}}}fulltext"


def device(node: ParleyServer, name: str, **options: Any) -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint, account, plugins=MORE, **options)


async def stanzas(client: Slix, peer: str) -> list[Any]:
    return [found["forwarded"]["stanza"] for found in await client.history(peer)]


async def test_a_retraction_over_two_domains(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "eve") as eve, device(two, "fay") as fay:
        sent = eve.say("fay@two.example", "wrong window")
        await fay.said("wrong window")
        # Somebody else who knows the id changes nothing.
        fay.plugin(424).send_retraction(slixmpp.JID("eve@one.example"), sent, mtype="chat", include_fallback=True)
        await fay.settled()
        await eve.until(lambda: eve.messages, "the other's retraction")
        for client, peer in ((eve, "fay@two.example"), (fay, "eve@one.example")):
            assert str((await stanzas(client, peer))[0]["body"]) == "wrong window"
        eve.plugin(424).send_retraction(slixmpp.JID("fay@two.example"), sent, mtype="chat", include_fallback=True)
        await eve.settled()
        await fay.until(lambda: any(str(message["retract"]["id"]) == sent for message in fay.messages), "retraction")
        for client, peer in ((eve, "fay@two.example"), (fay, "eve@one.example")):
            left, foreign, retraction = await stanzas(client, peer)
            assert "wrong window" not in str(left)
            assert (left["id"], left["retracted"]["id"]) == (sent, retraction["id"])
            assert retraction["retract"]["id"] == foreign["retract"]["id"] == sent


async def test_corrections_reactions_replies_and_markers_pass_and_stay(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "gus") as gus, device(two, "hal") as hal:
        sent = gus.say("hal@two.example", "helo")
        await hal.said("helo")
        correction = gus.plugin(308).build_correction(sent, slixmpp.JID("hal@two.example"), mtype="chat", mbody="hello")
        correction.send()
        hal.plugin(444).send_reactions(slixmpp.JID("gus@one.example"), sent, ["👍"])
        hal.plugin(333).send_marker(slixmpp.JID("gus@one.example"), sent, "displayed", mtype="chat")
        reply = hal.xmpp.make_message(mto=slixmpp.JID("gus@one.example"), mbody="hi", mtype="chat")
        reply["reply"]["id"] = sent
        reply.send()
        await gus.settled()
        await hal.settled()
        await gus.until(lambda: "hi" in gus.bodies, "reply")
        await hal.said("helo", "hello")
        found = await stanzas(gus, "hal@two.example")
        assert str(found[0]["body"]) == "helo"
        assert [str(message["body"]) for message in found if message["replace"]["id"] == sent] == ["hello"]
        texts = [str(message) for message in found]
        assert sum(f'xmlns="{ns.REACTIONS}"' in text and "👍" in text for text in texts) == 1
        assert sum(f'xmlns="{ns.CHAT_MARKERS}"' in text and "displayed" in text for text in texts) == 1
        assert [message["reply"]["id"] for message in found if str(message["body"]) == "hi"] == [sent]


async def asked(client: RawClient, payload: str, kind: str = "get") -> tuple[list[Element], Element]:
    """The messages that come before the answer of an IQ, and the answer."""
    await client.send(f"<iq type='{kind}' id='asked'>{payload}</iq>")
    before: list[Element] = []
    while True:
        found = await client.recv_stanza()
        if found.get("id") == "asked":
            return before, found
        if found.tag == f"{{{ns.CLIENT}}}message":
            before.append(found)


def entries(messages: list[Element]) -> list[tuple[str | None, str | None, bool]]:
    """Address, unread count and whether the last message is there, of what an inbox listed."""
    parts = [(found.find(f"{{{ns.INBOX}}}entry"), found.find(f"{{{ns.ARCHIVE}}}result")) for found in messages]
    return [(entry.get("jid"), entry.get("unread"), result is not None) for entry, result in parts if entry is not None]


async def inbox(client: RawClient, attributes: str = "", rsm: str = "") -> tuple[list[Any], Element]:
    page = f"<set xmlns='{ns.RESULT_SET}'>{rsm}</set>" if rsm else ""
    messages, answer = await asked(client, f"<inbox xmlns='{ns.INBOX}'{attributes}>{page}</inbox>")
    assert answer.get("type") == "result", ET.tostring(answer)
    return entries(messages), answer[0]


async def test_the_inbox(one: ParleyServer, two: ParleyServer) -> None:
    async with device(one, "ida", presence=False) as ida, device(two, "jim") as jim, device(one, "kim") as kim:
        for text in ("1", "2", "3"):
            sent = jim.say("ida@one.example", text)
        await jim.settled()
        kim.say("ida@one.example", "x")
        await kim.settled()
        client = await raw(one, "ida")
        try:
            while len((await inbox(client))[0]) < 2 or (await inbox(client))[1].get("all-unread") != "4":
                await ida.settled()
            listed, fin = await inbox(client)
            assert sorted(listed) == [("jim@two.example", "3", True), ("kim@one.example", "1", True)]
            assert (fin.get("total"), fin.get("unread"), fin.get("all-unread")) == ("2", "2", "4")
            ida.plugin(333).send_marker(slixmpp.JID("jim@two.example"), sent, "displayed", mtype="chat")
            await ida.settled()
            listed, fin = await inbox(client, " messages='false'")
            assert listed == [("jim@two.example", "0", False), ("kim@one.example", "1", False)]
            assert (await inbox(client, " unread-only='true'"))[0] == [("kim@one.example", "1", True)]
            page, fin = await inbox(client, "", "<max>1</max>")
            assert (page[0][0], fin.findtext(f".//{{{ns.RESULT_SET}}}count")) == ("jim@two.example", "2")
            last = fin.findtext(f".//{{{ns.RESULT_SET}}}last")
            assert (await inbox(client, "", f"<max>1</max><after>{last}</after>"))[0][0][0] == "kim@one.example"
            _, refused = await asked(client, f"<inbox xmlns='{ns.INBOX}' messages='perhaps'/>")
            assert refused.find(f".//{{{ns.STANZA_ERRORS}}}bad-request") is not None
            foreign = await client.request("get", f"<inbox xmlns='{ns.INBOX}'/>", "kim@one.example")
            assert foreign.get("type") == "error"
        finally:
            client.abort()


def note(peer: str, by: str, id_: str) -> str:
    """What a device publishes when it displayed a message (XEP-0490 s3.1)."""
    displayed = (
        f"<displayed xmlns='{ns.DISPLAYED_SYNC}'><stanza-id xmlns='{ns.STANZA_ID}' by='{by}' id='{id_}'/></displayed>"
    )
    item = f"<item id='{peer}'>{displayed}</item>"
    return f"<pubsub xmlns='{ns.PUBSUB}'><publish node='{ns.DISPLAYED_SYNC}'>{item}</publish></pubsub>"


async def test_what_one_device_noted_as_displayed_is_read_on_all(one: ParleyServer) -> None:
    async with device(one, "oda") as oda:
        for text in ("1", "2", "3"):
            oda.say("pia@one.example", text)
        await oda.settled()
    client = await raw(one, "pia")
    try:
        while (await inbox(client))[0] != [("oda@one.example", "3", True)]:
            await client.request("get", f"<ping xmlns='{ns.PING}'/>", one.domain)
        results, _ = await asked(client, query(""), "set")
        ids = [
            found.get("id", "")
            for found in (part.find(f"{{{ns.ARCHIVE}}}result") for part in results)
            if found is not None
        ]
        for wrong in (
            note("oda@one.example", "room@elsewhere.example", ids[2]),
            note("oda@one.example", "pia@one.example", "9007199254740991"),
            note("other@one.example", "pia@one.example", ids[2]),
            note("oda@one.example", "pia@one.example", "x"),
        ):
            assert (await client.request("set", wrong)).get("type") == "result"
        assert (await client.request("set", note("oda@one.example", "pia@one.example", ids[1]))).get("type") == "result"
        while (await inbox(client))[0] == [("oda@one.example", "3", True)]:
            await client.request("get", f"<ping xmlns='{ns.PING}'/>", one.domain)
        assert (await inbox(client))[0] == [("oda@one.example", "1", True)]
    finally:
        client.abort()


def query(words: str, rsm: str = "") -> str:
    return (
        f"<query xmlns='{ns.ARCHIVE}'><x xmlns='{ns.DATA_FORM}' type='submit'>"
        f"<field var='FORM_TYPE' type='hidden'><value>{ns.ARCHIVE}</value></field>"
        f"<field var='{FIELD}'><value>{words}</value></field></x>"
        f"<set xmlns='{ns.RESULT_SET}'>{rsm}</set></query>"
    )


def bodies(messages: list[Element]) -> list[str | None]:
    return [found.findtext(f".//{{{ns.CLIENT}}}body") for found in messages]


async def test_full_text_search_and_counts(one: ParleyServer) -> None:
    async with device(one, "leo") as leo, device(one, "mia") as mia:
        for number in range(4):
            leo.say("mia@one.example", f"Tea number {number}")
        leo.say("mia@one.example", "coffee")
        await leo.settled()
        await mia.until(lambda: len(mia.bodies) == 5)
    client = await raw(one, "mia")
    try:
        form = await client.request("get", f"<query xmlns='{ns.ARCHIVE}'/>")
        assert FIELD in [field.get("var") for field in form.iter(f"{{{ns.DATA_FORM}}}field")]
        assert bodies((await asked(client, query("tea"), "set"))[0]) == [f"Tea number {number}" for number in range(4)]
        messages, fin = await asked(client, query("tea", "<max>2</max><before/>"), "set")
        assert bodies(messages) == ["Tea number 2", "Tea number 3"]
        assert fin[0].get("complete") is None
        assert bodies((await asked(client, query("&quot;number 1&quot;"), "set"))[0]) == ["Tea number 1"]
        assert len((await asked(client, query(""), "set"))[0]) == 5
        for words, count in (("tea", "4"), ("", "5"), ("nothing", "0")):
            messages, fin = await asked(client, query(words, "<max>0</max>"), "set")
            assert (messages, fin.findtext(f".//{{{ns.RESULT_SET}}}count")) == ([], count)
        _, refused = await asked(client, query("?!"), "set")
        assert refused.find(f".//{{{ns.STANZA_ERRORS}}}bad-request") is not None
    finally:
        client.abort()


@pytest.mark.parametrize("to", ["", "ned@one.example"])
async def test_discovery(one: ParleyServer, to: str) -> None:
    client = await raw(one, "ned")
    try:
        answer = await client.request("get", f"<query xmlns='{ns.DISCO_INFO}'/>", to or one.domain)
        found = {feature.get("var") for feature in answer.iter(f"{{{ns.DISCO_INFO}}}feature")}
        assert {ns.FULL_TEXT, ns.INBOX, ns.RETRACTION} <= found
        assert (ns.RETRACTION_TOMBSTONE in found) == bool(to)
    finally:
        client.abort()
