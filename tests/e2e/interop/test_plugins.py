"""Every plugin of slixmpp that needs something of its server: requests answered, notifications given, elements carried to
another domain and into the archive.

What slixmpp ships and a server has no part in is not here; neither is what Parley does not offer: groups (XEP-0045), privacy
lists (XEP-0016), gateways, retrieval of what waits by number.
"""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest
from slixmpp import JID, Message
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0048.stanza import Bookmarks
from slixmpp.xmlstream import ET

from tests.kit.authority import Authority
from tests.kit.node import ParleyServer, parley_pair
from tests.kit.slix import PLUGINS, Slix

pytestmark = pytest.mark.timeout(120)

SECONDS: Final = 30
Ask = Callable[[Slix, Slix], Awaitable[None]]
ASKED: Final[dict[str, Ask]] = {}
"""Plugins that ask something: `ann` of one.example asks, `bob` of two.example is a contact."""


@pytest.fixture(scope="module")
def domains(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[tuple[ParleyServer, ParleyServer]]:
    """Two servers with everything on."""
    pair = parley_pair(
        tmp_path_factory.mktemp("pair"), authority, ("ann", "bob"), extra={"accounts": {"directory": "members"}}
    )

    async def start() -> None:
        await asyncio.gather(*(node.start() for node in pair))

    try:
        asyncio.run(start())
        yield pair
    finally:
        for node in pair:
            asyncio.run(node.kill9())


def asks(*plugins: str) -> Callable[[Ask], Ask]:
    """The function tests these plugins."""

    def take(made: Ask) -> Ask:
        ASKED[" ".join(plugins)] = made
        return made

    return take


def bare(client: Slix) -> JID:
    return JID(client.xmpp.boundjid.bare)


def keep(first: asyncio.Future[Any], found: Any) -> None:
    """The first of what comes."""
    if not first.done():
        first.set_result(found)


@contextlib.asynccontextmanager
async def contacts(one: ParleyServer, two: ParleyServer, *plugins: str) -> AsyncIterator[tuple[Slix, Slix]]:
    """Two contacts on two domains, each with the plugins, available, their wishes for notifications known."""
    made = []
    async with contextlib.AsyncExitStack() as stack:
        for node, name in ((one, "ann"), (two, "bob")):
            account = next(found for found in node.accounts if found.local == name)
            client = Slix(node.endpoint, account, presence=False, plugins=tuple(dict.fromkeys((*PLUGINS, *plugins))))
            await stack.enter_async_context(client)
            await client.plugin(115).update_caps(broadcast=False)
            client.xmpp.send_presence()
            await client.sees(client.jid, "available")
            made.append(client)
        ann, bob = made
        if ann.xmpp.client_roster[bob.xmpp.boundjid.bare]["subscription"] != "both":
            await ann.befriend(bob)
        else:
            await ann.sees(bob.jid, "available")
            await bob.sees(ann.jid, "available")
        yield ann, bob


@asks("xep_0012")
async def last_activity(ann: Slix, bob: Slix) -> None:
    for asked in (JID("one.example"), JID("two.example")):
        assert (await ann.plugin(12).get_last_activity(asked, timeout=SECONDS))["last_activity"]["seconds"] >= 0


@asks("xep_0030")
async def discovery(ann: Slix, bob: Slix) -> None:
    for asked, kind in ((JID("two.example"), ("server", "im")), (bare(bob), ("account", "registered"))):
        info = await ann.plugin(30).get_info(asked, timeout=SECONDS)
        assert kind in {(category, type_) for category, type_, *_ in info["disco_info"]["identities"]}
    services = {
        found[0]
        for found in (await ann.plugin(30).get_items(JID("one.example"), timeout=SECONDS))["disco_items"]["items"]
    }
    assert {"pubsub.one.example", "upload.one.example"} <= set(map(str, services))


@asks("xep_0050", "xep_0133")
async def commands(ann: Slix, bob: Slix) -> None:
    listed = await ann.plugin(133).get_commands(timeout=SECONDS)
    nodes = [found[1] for found in listed["disco_items"]["items"]]
    assert nodes
    assert not [node for node in nodes if "admin" in node]  # ann is none
    with pytest.raises(IqError):
        await ann.plugin(50).send_command(
            JID("one.example"), "http://jabber.org/protocol/admin#shutdown", timeout=SECONDS
        )
    done = await ann.plugin(50).send_command(JID("one.example"), "ping", timeout=SECONDS)
    assert done["command"]["status"] in ("completed", "executing")


@asks("xep_0055")
async def search(ann: Slix, bob: Slix) -> None:
    query = ann.plugin(55).make_search_iq(ito=JID("one.example"))
    query["search"]["form"].add_field(var="nick", value="ann")
    found = (await query.send(timeout=SECONDS))["search"]["form"]["items"]
    assert [item["jid"] for item in found] == ["ann@one.example"]


@asks("xep_0060")
async def publish_subscribe(ann: Slix, bob: Slix) -> None:
    service = JID("pubsub.one.example")
    payload = ET.Element("{urn:example:news}news")
    await ann.plugin(60).create_node(service, "plugins", timeout=SECONDS)
    await bob.plugin(60).subscribe(service, "plugins", timeout=SECONDS)
    got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bob.xmpp.add_event_handler("pubsub_publish", partial(keep, got))
    await ann.plugin(60).publish(service, "plugins", id="1", payload=payload, timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        assert (await got)["pubsub_event"]["items"]["item"]["id"] == "1"
    await ann.plugin(60).delete_node(service, "plugins", timeout=SECONDS)


@asks("xep_0077")
async def registration(ann: Slix, bob: Slix) -> None:
    info = await ann.plugin(77).get_registration(JID("one.example"), timeout=SECONDS)
    assert info["register"].xml.find("{jabber:iq:register}registered") is not None
    await ann.plugin(77).change_password("secret-ann", timeout=SECONDS)


@asks("xep_0092")
async def version(ann: Slix, bob: Slix) -> None:
    for asked in (JID("two.example"), JID(bob.jid)):
        assert (await ann.plugin(92).get_version(asked, timeout=SECONDS))["software_version"]["name"]


@asks("xep_0115", "xep_0128")
async def capabilities(ann: Slix, bob: Slix) -> None:
    await bob.until(lambda: any(found["from"] == ann.jid and found["caps"]["ver"] for found in bob.presences))
    info = await ann.plugin(30).get_info(JID("one.example"), timeout=SECONDS)
    forms = [form.get_values() for form in info["disco_info"]["substanzas"] if form.name == "x"]
    assert all("FORM_TYPE" in form for form in forms)


@asks("xep_0184")
async def receipts(ann: Slix, bob: Slix) -> None:
    message = ann.xmpp.make_message(mto=bob.jid, mbody="receipt, please", mtype="chat")
    message["request_receipt"] = True
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ann.xmpp.add_event_handler("receipt_received", partial(keep, told))
    message.send()
    async with asyncio.timeout(SECONDS):
        assert (await told)["receipt"] == message["id"]


@asks("xep_0191")
async def blocking(ann: Slix, bob: Slix) -> None:
    nobody = JID("nobody@two.example")
    await ann.plugin(191).block(nobody, timeout=SECONDS)
    assert await ann.plugin(191).get_blocked_jids(timeout=SECONDS) == {nobody}
    await ann.plugin(191).unblock(nobody, timeout=SECONDS)
    assert await ann.plugin(191).get_blocked_jids(timeout=SECONDS) == set()


@asks("xep_0198", "xep_0199", "xep_0202")
async def pings_and_time(ann: Slix, bob: Slix) -> None:
    for asked in (JID("one.example"), JID("two.example"), JID(bob.jid)):
        assert await ann.plugin(199).ping(asked, timeout=SECONDS) >= 0
    for asked in (JID("one.example"), JID("two.example")):
        answer = await ann.plugin(202).get_entity_time(asked, timeout=SECONDS)
        # its own reading of this field adds a second Z
        told = datetime.datetime.fromisoformat(answer["entity_time"].xml.findtext("{urn:xmpp:time}utc"))
        assert abs((datetime.datetime.now(datetime.UTC) - told).total_seconds()) < 60
    await ann.settled()


@asks("xep_0222", "xep_0223")
async def storage(ann: Slix, bob: Slix) -> None:
    await ann.plugin(222).store(Bookmarks(), node="urn:example:public", id="1", timeout=SECONDS)
    await ann.plugin(223).store(Bookmarks(), node="urn:example:private", id="1", timeout=SECONDS)
    for number, node in ((222, "urn:example:public"), (223, "urn:example:private")):
        assert len((await ann.plugin(number).retrieve(node, timeout=SECONDS))["pubsub"]["items"]) == 1
    await bob.plugin(60).get_items(bare(ann), "urn:example:public", timeout=SECONDS)
    with pytest.raises(IqError):
        await bob.plugin(60).get_items(bare(ann), "urn:example:private", timeout=SECONDS)


@asks("xep_0280", "xep_0297")
async def copies(ann: Slix, bob: Slix) -> None:
    await ann.plugin(280).disable(timeout=SECONDS)
    await ann.plugin(280).enable(timeout=SECONDS)
    inner = ann.xmpp.make_message(mto=bob.jid, mbody="the text that is passed on", mtype="chat")
    outer = ann.xmpp.make_message(mto=bob.jid, mbody="see", mtype="chat")
    outer["forwarded"]["stanza"] = inner
    outer.send()
    await bob.until(lambda: any("passed on" in str(found["forwarded"]["stanza"]) for found in bob.messages))


@asks("xep_0313", "xep_0059")
async def archive(ann: Slix, bob: Slix) -> None:
    ann.say(str(bare(bob)), "for the archive of both")
    await bob.until(lambda: "for the archive of both" in bob.bodies)
    await ann.settled()
    for client, peer in ((ann, bob), (bob, ann)):
        assert (await client.texts(str(bare(peer))))[-1:] == ["for the archive of both"]
        meta = await client.plugin(313).get_archive_metadata(timeout=SECONDS)
        assert meta["mam_metadata"]["end"]["id"]


@asks("xep_0319")
async def idle(ann: Slix, bob: Slix) -> None:
    presence = ann.xmpp.make_presence(pshow="away")
    presence["idle"]["since"] = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    presence.send()
    seen = await bob.sees(ann.jid, "away")
    assert seen["idle"]["since"] == datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@asks("xep_0352")
async def inactive(ann: Slix, bob: Slix) -> None:
    ann.plugin(352).send_inactive()
    bob.say(str(bare(ann)), "comes although nobody looks")
    await ann.until(lambda: "comes although nobody looks" in ann.bodies)
    ann.plugin(352).send_active()


@asks("xep_0047", "xep_0231")
async def bytes_in_band(ann: Slix, bob: Slix) -> None:
    """Requests between two clients on two domains, in both directions."""
    cid = await bob.plugin(231).set_bob(b"a small picture", "image/png")
    answer = await ann.plugin(231).get_bob(JID(bob.jid), cid, cached=False, timeout=SECONDS)
    assert answer["bob"]["data"] == b"a small picture"
    got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    bob.plugin(47).auto_accept = True
    bob.xmpp.add_event_handler("ibb_stream_data", partial(keep, got))
    stream = await ann.plugin(47).open_stream(JID(bob.jid), timeout=SECONDS)
    await stream.send(b"over the stream", timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        assert (await got).read() == b"over the stream"


@asks("xep_0363")
async def upload(ann: Slix, bob: Slix) -> None:
    service = await ann.plugin(363).find_upload_service(timeout=SECONDS)
    assert str(service["from"]) == "upload.one.example"
    slot = await ann.plugin(363).request_slot(JID("upload.one.example"), "a b.txt", 5, "text/plain", timeout=SECONDS)
    assert slot["http_upload_slot"]["get"]["url"].startswith("https://")


@asks("xep_0441")
async def preferences(ann: Slix, bob: Slix) -> None:
    default, _, _ = await ann.plugin(441).get_preferences(timeout=SECONDS)
    assert default == "always"


@pytest.mark.parametrize("plugins", list(ASKED))
async def test_it_asks(one: ParleyServer, two: ParleyServer, plugins: str) -> None:
    async with contacts(one, two, *plugins.split()) as (ann, bob):
        await ASKED[plugins](ann, bob)


PUBLISHED: Final[dict[int, tuple[str, Callable[[Any], Any], str]]] = {
    80: ("user_location", lambda made: made.publish_location(country="Norway", timeout=SECONDS), "Norway"),
    107: ("user_mood", lambda made: made.publish_mood("happy", "sunshine", timeout=SECONDS), "sunshine"),
    108: ("user_activity", lambda made: made.publish_activity("working", "coding", "tests", timeout=SECONDS), "tests"),
    118: ("user_tune", lambda made: made.publish_tune(artist="Grieg", timeout=SECONDS), "Grieg"),
    152: ("reachability", lambda made: made.publish_reachability([{"uri": "tel:+47"}], timeout=SECONDS), "tel:+47"),
    172: ("user_nick", lambda made: made.publish_nick("Annie", timeout=SECONDS), "Annie"),
    196: ("user_gaming", lambda made: made.publish_gaming(name="Chess", timeout=SECONDS), "Chess"),
}
"""Plugins that publish by PEP: the name of their event, how they publish, what the other side must find."""


@pytest.mark.parametrize("number", PUBLISHED)
async def test_it_publishes(one: ParleyServer, two: ParleyServer, number: int) -> None:
    event, publish, word = PUBLISHED[number]
    async with contacts(one, two, "xep_0060", "xep_0163", f"xep_{number:04}") as (ann, bob):
        told: list[str] = []
        for client in (ann, bob):

            def take(message: Any, client: Slix = client) -> None:
                told.append(str(message))
                client._moved.set()

            client.xmpp.add_event_handler(f"{event}_publish", take)
        await publish(ann.plugin(number))
        for client in (ann, bob):
            await client.until(lambda client=client: any(f'to="{client.jid}"' in text for text in told))  # type: ignore[misc]
        assert [text for text in told if word not in text] == []


CARRIED: Final[dict[str, str]] = {
    "0066 Out of Band Data": "<x xmlns='jabber:x:oob'><url>https://x.example/</url></x>",
    "0071 XHTML-IM": "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'/></html>",
    "0107 User Mood": "<mood xmlns='http://jabber.org/protocol/mood'><happy/></mood>",
    "0131 Headers": "<headers xmlns='http://jabber.org/protocol/shim'><header name='Urgency'>high</header></headers>",
    "0221 Media Element": "<media xmlns='urn:xmpp:media-element' height='1' width='1'/>",
    "0224 Attention": "<attention xmlns='urn:xmpp:attention:0'/>",
    "0249 Direct Invitation": "<x xmlns='jabber:x:conference' jid='room@rooms.example'/>",
    "0300 Hash": "<hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>YQ==</hash>",
    "0308 Correction": "<replace xmlns='urn:xmpp:message-correct:0' id='earlier'/>",
    "0333 Markable": "<markable xmlns='urn:xmpp:chat-markers:0'/>",
    "0335 JSON": "<json xmlns='urn:xmpp:json:0'>{}</json>",
    "0372 Reference": "<reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:bob@two.example'/>",
    "0380 Encryption": "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:example:crypt'/>",
    "0382 Spoiler": "<spoiler xmlns='urn:xmpp:spoiler:0'>end</spoiler>",
    "0394 Markup": "<markup xmlns='urn:xmpp:markup:0'><bcode start='0' end='4'/></markup>",
    "0422 Fastening": "<apply-to xmlns='urn:xmpp:fasten:0' id='earlier'/>",
    "0424 Retraction": "<retract xmlns='urn:xmpp:message-retract:1' id='earlier'/>",
    "0428 Fallback": "<fallback xmlns='urn:xmpp:fallback:0' for='urn:example:x'/>",
    "0439 Quick Response": "<response xmlns='urn:xmpp:tmp:quick-response' value='yes' label='Yes'/>",
    "0444 Reactions": "<reactions xmlns='urn:xmpp:reactions:0' id='earlier'><reaction>&#128075;</reaction></reactions>",
    "0446 File Metadata": "<file xmlns='urn:xmpp:file:metadata:0'><name>a.png</name></file>",
    "0447 File Sharing": "<file-sharing xmlns='urn:xmpp:sfs:0' disposition='inline' id='f'/>",
    "0449 Sticker": "<sticker xmlns='urn:xmpp:stickers:0' pack='p'/>",
    "0461 Reply": "<reply xmlns='urn:xmpp:reply:0' id='earlier' to='bob@two.example'/>",
    "0482 Call Invite": "<invite xmlns='urn:xmpp:call-invites:0' video='true'/>",
    "0511 Link Metadata": "<Description xmlns='http://www.w3.org/1999/02/22-rdf-syntax-ns#' about='https://x.example/'/>",
}
"""Elements of messages that a server carries and keeps as they are."""


async def test_elements_are_carried_and_kept(one: ParleyServer, two: ParleyServer) -> None:
    async with contacts(one, two) as (ann, bob):
        for name, text in CARRIED.items():
            message: Message = ann.xmpp.make_message(mto=bare(bob), mbody=name, mtype="chat")
            message.xml.append(ET.fromstring(text))
            message.send()
        last = list(CARRIED)[-1]
        await bob.until(lambda: last in bob.bodies)
        kept = {str(found["body"]): found for found in bob.messages if found["body"] in CARRIED}
        archived = await bob.history(str(bare(ann)))
        stored = {str(found["forwarded"]["stanza"]["body"]): found["forwarded"]["stanza"] for found in archived}
        for name, text in CARRIED.items():
            wanted = ET.fromstring(text)
            for found in (kept[name], stored[name]):
                [part] = [part for part in found.xml if part.tag == wanted.tag]
                assert ET.canonicalize(ET.tostring(part)) == ET.canonicalize(ET.tostring(wanted)), name
                assert found["stanza_id"]["id"] or found is stored[name]


async def test_hints_keep_messages_out_of_the_archive(one: ParleyServer, two: ParleyServer) -> None:
    """XEP-0334, XEP-0353: what is only signalling or is not to be kept."""
    async with contacts(one, two, "xep_0334", "xep_0353") as (ann, bob):
        for hint, text in (("no-store", "not kept"), ("no-permanent-store", "not kept either"), ("store", "kept")):
            message = ann.xmpp.make_message(mto=bare(bob), mbody=text, mtype="chat")
            message.enable(hint)
            message.send()
        ann.plugin(353).propose(bare(bob), "call", [("urn:xmpp:jingle:apps:rtp:1", "audio")])
        await bob.until(lambda: "kept" in bob.bodies)
        assert [text for text in bob.bodies if "kept" in text][-3:] == ["not kept", "not kept either", "kept"]
        await ann.settled()
        assert [text for text in await bob.texts(str(bare(ann))) if "kept" in text] == ["kept"]
