"""External components (XEP-0114): a real server, slixmpp's component and one that misbehaves."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from slixmpp.exceptions import IqError

from tests.kit.authority import Authority
from tests.kit.component import Echo, RawComponent, add_component, jid
from tests.kit.node import HOST, ParleyServer, parley_pair
from tests.kit.server import free_port
from tests.kit.slix import Slix

BOT = "bot.parley.example"
CAT = "cat.parley.example"


@pytest.fixture
async def node(tmp_path: Path, authority: Authority) -> AsyncIterator[tuple[ParleyServer, int]]:
    """A server without federation, with two components, and the port for them."""
    made, port = ParleyServer(tmp_path, authority, ("ann", "bob")), free_port(HOST)
    add_component(made, BOT, port)
    add_component(made, CAT, port, listener=False, more="listed = false")
    await made.start()
    try:
        yield made, port
    finally:
        await made.kill9()


def device(node: ParleyServer, name: str) -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint_for("starttls"), account)


async def test_an_echo_bot_of_slixmpp(node: tuple[ParleyServer, int]) -> None:
    server, port = node
    async with Echo(BOT, port) as bot, device(server, "ann") as ann:
        items = await ann.plugin(30).get_items(jid("parley.example"), timeout=10)
        listed = {item[0] for item in items["disco_items"]["items"]}
        assert BOT in listed
        assert CAT not in listed
        info = await ann.plugin(30).get_info(jid(BOT), timeout=10)
        assert ("client", "bot", None, "Echo") in info["disco_info"]["identities"]
        ann.say(f"echo@{BOT}", "one")
        ann.say(f"echo@{BOT}", "two")
        await ann.said("echo one", "echo two")
        assert sorted(await ann.texts(f"echo@{BOT}")) == ["echo one", "echo two", "one", "two"]
        bot.xmpp.send_presence_subscription(pto=jid("ann@parley.example"), pfrom=jid(f"echo@{BOT}"), ptype="subscribe")
        await ann.sees(f"echo@{BOT}", "subscribe")
        ann.xmpp.send_presence(pto=f"echo@{BOT}", ptype="subscribed")
        await bot.until(lambda: any(seen["type"] == "available" for seen in bot.presences))
        ann.xmpp.send_presence_subscription(pto=f"echo@{BOT}", ptype="subscribe")
        await ann.sees(f"echo@{BOT}", "subscribed")
        bot.xmpp.send_presence(pto=jid("ann@parley.example"), pfrom=jid(f"echo@{BOT}/x"))
        await ann.sees(f"echo@{BOT}/x", "available")


async def test_queries_to_a_component_that_is_away(node: tuple[ParleyServer, int]) -> None:
    server, port = node
    async with device(server, "ann") as ann:
        with pytest.raises(IqError) as refused:
            await ann.plugin(30).get_info(jid(BOT), timeout=10)
        assert refused.value.condition == "service-unavailable"
        ann.say(f"a@{BOT}", "waits")
        await ann.settled()
        async with RawComponent(BOT, port) as bot:
            await bot.until(lambda: bot.bodies == ["waits"])


async def test_what_was_not_read_comes_again(node: tuple[ParleyServer, int]) -> None:
    """A component that is killed, and a server that is: no acknowledged message is lost."""
    server, port = node
    async with device(server, "ann") as ann:
        deaf = RawComponent(BOT, port, answers=False)
        await deaf.connect()
        for number in range(50):
            ann.say(f"a@{BOT}", f"m{number}")
        await ann.settled()
        await deaf.until(lambda: deaf.bodies)
        await deaf.cut()
    deaf = RawComponent(BOT, port, answers=False)
    await deaf.connect()
    await deaf.until(lambda: len(deaf.bodies) >= 50)
    await server.kill9()
    await deaf.cut()
    await server.start()
    texts = [f"m{number}" for number in range(50)]
    async with RawComponent(BOT, port) as bot, device(server, "ann") as ann:
        await bot.until(lambda: len(bot.bodies) >= 50)
        assert bot.bodies == texts
        ann.say(f"a@{BOT}", "m50")
        await bot.until(lambda: bot.bodies[50:] == ["m50"])
        for number in range(20):
            ann.say(f"a@{BOT}", f"n{number}")
        await ann.settled()
        await bot.until(lambda: len(bot.bodies) == 71)
    async with RawComponent(BOT, port) as bot, device(server, "ann") as ann:
        ann.say(f"a@{BOT}", "last")
        await bot.until(lambda: "last" in bot.bodies)
        assert len(bot.bodies) <= 21


async def test_one_connection_for_each_domain(node: tuple[ParleyServer, int]) -> None:
    """The one that is there keeps its place, unless it does not answer any more."""
    _, port = node
    async with RawComponent(BOT, port):
        other = RawComponent(BOT, port)
        await other.connect()
        assert (other.is_over, other.error) == (True, "conflict")
        wrong = RawComponent(BOT, port, secret="guess")
        await wrong.connect()
        assert wrong.error == "not-authorized"
        unknown = RawComponent("dog.parley.example", port)
        await unknown.connect()
        assert unknown.error == "host-unknown"


async def test_s68_a_component_speaks_for_itself_only(node: tuple[ParleyServer, int]) -> None:
    """It ends the stream that says otherwise; an answer nobody asked it for reaches nobody as another's."""
    server, port = node
    async with device(server, "ann") as ann, RawComponent(CAT, port) as cat:
        async with RawComponent(BOT, port) as bot:
            bot.send(f"<message from='cat@{CAT}' to='ann@parley.example' type='chat'><body>forged</body></message>")
            await bot.until(lambda: bot.is_over)
            assert bot.error == "invalid-from"
        query = asyncio.create_task(ann.plugin(30).get_info(jid(CAT), timeout=10))
        await cat.until(lambda: cat.stanzas)
        asked = cat.stanzas[0]
        async with RawComponent(BOT, port) as bot:
            bot.send(f"<iq type='result' id='{asked.get('id')}' from='{BOT}' to='{ann.jid}'/>")
            bot.send(f"<iq type='get' id='p' from='{BOT}' to='parley.example'><ping xmlns='urn:xmpp:ping'/></iq>")
            await bot.until(lambda: bot.stanza("p") is not None)
            assert not query.done()
            cat.send(f"<iq type='error' id='{asked.get('id')}' from='{CAT}' to='{ann.jid}'><error type='cancel'>"
                     "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")  # fmt: skip
            with pytest.raises(IqError) as answer:
                await query
            assert answer.value.condition == "gone"


async def test_components_talk_to_each_other_and_are_told_of_failures(node: tuple[ParleyServer, int]) -> None:
    _, port = node
    async with RawComponent(BOT, port) as bot, RawComponent(CAT, port) as cat:
        bot.say(f"tom@{CAT}", "hello")
        await cat.until(lambda: cat.bodies == ["hello"])
        for to, condition in (
            ("nobody@parley.example", "service-unavailable"),
            ("x@far.example", "remote-server-not-found"),
        ):
            bot.say(to, condition)
            await bot.until(lambda wanted=condition: bot.stanza(wanted) is not None)
            error = bot.stanza(condition)
            assert error is not None
            assert error.get("type") == "error"
            assert f"{condition} " in "".join(found.tag.rpartition("}")[2] + " " for found in error.iter())


async def test_over_the_federation(tmp_path: Path, authority: Authority) -> None:
    """A component is reached from another server, and writes to it, in the name of the domain above it."""
    one, two = parley_pair(tmp_path, authority, ("ann",))
    port = free_port(HOST)
    add_component(one, "bot.one.example", port)
    pin = next(line for line in two.config.read_text().splitlines() if line.startswith("url") and "federation" in line)
    peers = two.config.read_text()
    start = peers.index('[[federation.peer]]\ndomain = "one.example"')
    block = peers[start:].split("\n\n")[0].replace('"one.example"', '"bot.one.example"')
    assert pin
    two.config.write_text(f"{peers}\n{block}\n")
    try:
        await asyncio.gather(one.start(), two.start())
        async with Echo("bot.one.example", port), device(two, "ann") as far:
            far.say("echo@bot.one.example", "hi")
            await far.said("echo hi")
            info = await far.plugin(30).get_info(jid("bot.one.example"), timeout=10)
            assert ("client", "bot", None, "Echo") in info["disco_info"]["identities"]
    finally:
        await asyncio.gather(one.kill9(), two.kill9())


async def test_a_component_that_does_not_answer_any_more_loses_its_place(node: tuple[ParleyServer, int]) -> None:
    """It is asked when another one comes; what it had not read goes to the one that took its place."""
    server, port = node
    frozen = RawComponent(BOT, port, answers=False)
    await frozen.connect()
    async with device(server, "ann") as ann:
        ann.say(f"a@{BOT}", "unread")
        await frozen.until(lambda: frozen.bodies == ["unread"])
    fresh = RawComponent(BOT, port)
    await fresh.connect()
    assert fresh.error == ""
    await fresh.until(lambda: fresh.bodies == ["unread"])
    assert frozen.error == "connection-timeout"
    await fresh.cut()


async def test_order_of_messages_and_queries(node: tuple[ParleyServer, int]) -> None:
    """A query does not overtake the messages before it; answers reach a component that reads nothing else before."""
    server, port = node
    async with device(server, "ann") as ann, RawComponent(BOT, port, answers=False) as bot:
        ann.say(f"a@{BOT}", "one")
        await bot.until(lambda: bot.bodies == ["one"])
        ann.say(f"a@{BOT}", "two")
        query = asyncio.create_task(ann.plugin(30).get_info(jid(BOT), timeout=10))
        bot.send(f"<iq type='get' id='p' from='{BOT}' to='parley.example'><ping xmlns='urn:xmpp:ping'/></iq>")
        await bot.until(lambda: bot.stanza("p") is not None)
        await ann.settled()
        assert bot.bodies == ["one"]
        await bot.answer()
        await bot.until(lambda: bot.bodies == ["one", "two"])
        await bot.until(lambda: bot.stanzas[-1].get("type") == "get")
        asked = bot.stanzas[-1]
        bot.send(
            f"<iq type='result' id='{asked.get('id')}' from='{BOT}' to='{ann.jid}'>"
            "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        await query


async def test_a_component_that_answers_no_pings(tmp_path: Path, authority: Authority) -> None:
    """With ``confirm = false`` what was written counts as read, and nothing comes again."""
    server, port = ParleyServer(tmp_path, authority, ("ann",)), free_port(HOST)
    add_component(server, BOT, port, more="confirm = false")
    await server.start()
    try:
        async with device(server, "ann") as ann:
            async with RawComponent(BOT, port, answers=False) as bot:
                for text in ("one", "two", "three"):
                    ann.say(f"a@{BOT}", text)
                await bot.until(lambda: bot.bodies == ["one", "two", "three"])
            ann.say(f"a@{BOT}", "four")
            await ann.settled()
            async with RawComponent(BOT, port, answers=False) as bot:
                await bot.until(lambda: bot.bodies == ["four"])
                async with RawComponent(BOT, port, answers=False) as fresh:
                    await bot.until(lambda: bot.is_over)
                    assert (bot.error, fresh.error) == ("conflict", "")
                    ann.say(f"a@{BOT}", "five")
                    await fresh.until(lambda: fresh.bodies == ["five"])
    finally:
        await server.kill9()


async def test_over_tls(tmp_path: Path, authority: Authority) -> None:
    """A listener that is not cleartext has TLS from the first byte."""
    server, port = ParleyServer(tmp_path, authority, ("ann",)), free_port(HOST)
    add_component(server, BOT, port, tls="required")
    await server.start()
    try:
        context = ssl.create_default_context(cafile=authority.ca_file)
        bot = RawComponent(BOT, port, context=context)
        await bot.connect()
        async with device(server, "ann") as ann:
            bot.say("ann@parley.example", "hello")
            await ann.said("hello")
        await bot.cut()
    finally:
        await server.kill9()
