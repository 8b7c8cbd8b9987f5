"""What an inactive client is spared, and what it is not (XEP-0352), seen from outside."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import RawClient
from tests.kit.node import HOST, ParleyServer

INACTIVE = f"<inactive xmlns='{ns.CLIENT_STATE}'/>"
ACTIVE = f"<active xmlns='{ns.CLIENT_STATE}'/>"
COMPOSING = f"<composing xmlns='{ns.CHAT_STATES}'/>"


def marker(number: int) -> str:
    return f"<displayed xmlns='{ns.CHAT_MARKERS}' id='m{number}'/>"


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str, inline: str = "") -> AsyncIterator[RawClient]:
    """Logged in with SASL2 and Bind 2; ``inline`` goes into ``<bind/>``."""
    made = RawClient(HOST, node.ports.xmpp, node.domain)
    try:
        await made.connect()
        await made.open()
        await made.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        await made.authenticate2(name, f"secret-{name}", inline=f"<bind xmlns='{ns.BIND2}'>{inline}</bind>")
        yield made
    finally:
        made.abort()


async def befriended(one: RawClient, other: RawClient) -> None:
    """``one`` sees the presence of ``other``; both are available."""
    for each in (one, other):
        await each.send("<presence/>")
        await each.expect(lambda found, own=each.jid: found.get("from") == own)  # type: ignore[misc]
    bare = other.jid.partition("/")[0]
    await one.send(f"<presence to='{bare}' type='subscribe'/>")
    await other.expect(lambda found: found.get("type") == "subscribe")
    await other.send(f"<presence to='{one.jid.partition('/')[0]}' type='subscribed'/>")
    await one.expect(lambda found: found.get("from") == other.jid)


async def pinged(asker: RawClient) -> None:
    """All that was sent before is done."""
    answer = await asker.request("get", f"<ping xmlns='{ns.PING}'/>", asker.domain)
    assert answer.get("type") == "result"


async def come(listener: RawClient) -> list[str]:
    """What lies on the wire before the answer to a ping, in short."""
    got: list[str] = []
    await listener.send(f"<iq type='get' id='last' to='{listener.domain}'><ping xmlns='{ns.PING}'/></iq>")
    while True:
        found = await listener.recv_stanza()
        if found.get("id") == "last":
            return got
        got.append(short(found))


def short(found: Element) -> str:
    for path in ("show", "body"):
        text = found.findtext(f"{{{ns.CLIENT}}}{path}")
        if text is not None:
            return text
    return found[0].tag.rpartition("}")[2] + " " + found[0].get("id", "")


async def tell(sender: RawClient, to: RawClient, content: str) -> None:
    await sender.send(f"<message type='chat' to='{to.jid}'>{content}</message>")


async def test_what_may_wait_waits_and_a_message_takes_it_along(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "ann") as ann, client(node, "bob") as bob:
        await befriended(ann, bob)
        await ann.enable()
        await ann.send(INACTIVE)
        await pinged(ann)
        for show in ("away", "dnd", "xa"):
            await bob.send(f"<presence><show>{show}</show></presence>")
        await tell(bob, ann, COMPOSING)
        await tell(bob, ann, marker(1))
        await pinged(bob)
        await tell(bob, ann, "<body>wake up</body>")
        # only the last presence, no chat state, the marker, then what woke it
        first = await ann.recv_stanza()
        assert [short(first), *await come(ann)] == ["xa", "displayed m1", "wake up"]
        # what is held is not counted: the client's count is the server's
        await ann.acknowledge()
        await bob.send("<presence><show>chat</show></presence>")
        await pinged(bob)
        await ann.send(ACTIVE)
        assert short(await ann.recv_stanza()) == "chat"
        await ann.acknowledge()
        assert await come(ann) == []
        await bob.send("<presence><show>away</show></presence>")
        assert short(await ann.recv_stanza()) == "away"


async def test_what_was_held_when_the_connection_was_lost_comes_with_the_resumption(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "bob") as bob, client(node, "ann") as ann:
        await befriended(ann, bob)
        await ann.enable()
        await ann.send(INACTIVE)
        await pinged(ann)
        await bob.send("<presence><show>away</show></presence>")
        await tell(bob, ann, marker(1))
        await tell(bob, ann, marker(2))
        await pinged(bob)
        previd, received = ann.sm_id, ann.received
        ann.abort()
        again = await resumed(node, previd, received)
        assert [short(await again.recv_stanza()) for _ in range(3)] == ["away", "displayed m1", "displayed m2"]
        # a resumed stream is active (XEP-0352 s5.2)
        await bob.send("<presence><show>chat</show></presence>")
        assert short(await again.recv_stanza()) == "chat"
        again.abort()


async def resumed(node: ParleyServer, previd: str, received: int) -> RawClient:
    """The stream of ann, on a new connection."""
    again = RawClient(HOST, node.ports.xmpp, node.domain)
    await again.connect()
    await again.open()
    await again.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
    await again.authenticate("ann", "secret-ann")
    assert (await again.resume(previd, received)).tag.endswith("}resumed")
    return again


async def test_what_was_held_when_the_server_was_killed_comes_with_the_resumption(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "bob") as bob, client(node, "ann") as ann:
        await befriended(ann, bob)
        await ann.enable()
        await bob.enable()
        await tell(bob, ann, "<body>one</body>")
        assert short(await ann.recv_stanza()) == "one"
        await ann.acknowledge()
        await ann.send(INACTIVE)
        await pinged(ann)
        await tell(bob, ann, marker(1))
        await tell(bob, ann, "<body>two</body>")
        assert [short(await ann.recv_stanza()) for _ in range(2)] == ["displayed m1", "two"]
        await tell(bob, ann, marker(2))
        await tell(bob, ann, marker(3))
        assert await bob.handled() == 5  # they are stored
        await node.kill9()
        await node.start()
        again = await resumed(node, ann.sm_id, ann.received)
        got = [short(await again.expect(lambda found: found.tag.endswith("}message"))) for _ in range(2)]
        assert got == ["displayed m2", "displayed m3"]
        again.abort()


async def test_held_messages_are_not_lost_with_a_session_that_cannot_be_resumed(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "bob") as bob:
        async with client(node, "ann", INACTIVE) as ann:
            await ann.send("<presence/>")
            await pinged(ann)
            await bob.send(f"<message type='chat' to='ann@{node.domain}'>{marker(1)}</message>")
            await pinged(bob)
        later = RawClient(HOST, node.ports.xmpp, node.domain)  # without Bind 2, so what waits is sent to it
        try:
            await later.login("ann", "secret-ann", tls=ssl.create_default_context(cafile=str(node.authority.ca_file)))
            await later.send("<presence/>")
            found = await later.expect(lambda found: found.tag.endswith("}message"))
            assert short(found) == "displayed m1"
        finally:
            later.abort()


async def test_an_inactive_client_that_asks_gets_answers_after_what_was_held(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "ann") as ann, client(node, "bob") as bob:
        await befriended(ann, bob)
        await ann.send(INACTIVE)
        await pinged(ann)
        await bob.send("<presence><show>dnd</show></presence>")
        await pinged(bob)
        assert await come(ann) == ["dnd"]


async def test_the_bounds_of_what_is_held(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "ann") as ann, client(node, "bob") as bob:
        await befriended(ann, bob)
        await ann.send(INACTIVE)
        await pinged(ann)
        for number in range(201):
            await tell(bob, ann, marker(number))
        async with asyncio.timeout(20):
            assert [short(await ann.recv_stanza()) for _ in range(201)] == [f"displayed m{n}" for n in range(201)]
