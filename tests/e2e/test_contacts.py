"""Rosters and presence over real connections: one server, a restart, two servers that federate."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode, MakePair
from tests.kit.fakes import short
from tests.kit.node import ParleyServer
from tests.kit.raw import RawClient


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str, resource: str = "x") -> AsyncIterator[RawClient]:
    """A logged in client that asked for its roster and is available."""
    made = RawClient(node.endpoint)
    try:
        await made.login(next(found for found in node.accounts if found.local == name), resource)
        await ask(made, f"<iq type='get' id='r'><query xmlns='{ns.ROSTER}'/></iq>", "r")
        made.write("<presence/>")
        await until(made, f"available {made.jid} ->")
        yield made
    finally:
        made.abort()


async def ask(asker: RawClient, text: str, stanza_id: str) -> Element:
    """The answer to an IQ; what comes before it is dropped."""
    asker.write(text)
    while True:
        found = await asker.next()
        if found.get("id") == stanza_id:
            return found


async def until(listener: RawClient, start: str) -> list[str]:
    """What it is told up to the line that begins with ``start``."""
    told: list[str] = []
    while not (told and told[-1].startswith(start)):
        told.append(short(await listener.next()))
    return told


async def befriend(one: RawClient, other: RawClient) -> None:
    """Subscriptions both ways, as two people would do it."""
    first, second = one.jid.partition("/")[0], other.jid.partition("/")[0]
    for asker, answerer, own, peer in ((one, other, first, second), (other, one, second, first)):
        asker.write(f"<presence to='{peer}' type='subscribe'/>")
        await until(answerer, f"subscribe {own} ->")
        answerer.write(f"<presence to='{own}' type='subscribed'/>")
        await until(asker, f"available {answerer.jid} ->")


async def test_two_people_become_contacts_and_see_each_other(make_node: MakeNode) -> None:
    node = make_node(["alice", "bob"])
    await node.start()
    async with client(node, "alice") as alice:
        async with client(node, "bob") as bob:
            await befriend(alice, bob)
            bob.write("<presence><show>away</show></presence>")
            await until(alice, f"available {bob.jid} ->")
        await until(alice, f"unavailable {bob.jid} ->")
        async with client(node, "bob", "y") as bob:
            await until(bob, f"available {alice.jid} ->")
            await until(alice, f"available {bob.jid} ->")


async def test_a_request_to_someone_away_survives_kill_9(make_node: MakeNode) -> None:
    node = make_node(["alice", "bob"])
    await node.start()
    async with client(node, "alice") as alice:
        alice.write("<presence to='bob@parley.example' type='subscribe'><status>hello</status></presence>")
        assert "ask=subscribe" in (await until(alice, "push"))[-1]
        # The answer to a later request proves that this one was handled, its commit included.
        await ask(alice, f"<iq type='get' id='p'><ping xmlns='{ns.PING}'/></iq>", "p")
    await node.kill9()
    await node.start()
    bob = RawClient(node.endpoint)
    await bob.login(node.accounts[1])
    bob.write("<presence/>")
    await until(bob, "subscribe alice@parley.example ->")
    await bob.close()


async def test_contacts_on_two_servers(make_pair: MakePair) -> None:
    one, two = make_pair(["alice", "bob"])
    await asyncio.gather(one.start(), two.start())
    async with client(one, "alice") as alice, client(two, "bob") as bob:
        await befriend(alice, bob)
        async with client(two, "bob", "second") as second:
            await until(second, f"available {alice.jid} ->")
            await until(alice, f"available {second.jid} ->")
        await until(alice, f"unavailable {second.jid} ->")
        bare = bob.jid.partition("/")[0]
        text = (
            f"<iq type='set' id='s'><query xmlns='{ns.ROSTER}'><item jid='{bare}' subscription='remove'/></query></iq>"
        )
        alice.write(text)
        told = await until(bob, "unsubscribed ")
        assert [line for line in told if line.startswith(("unavailable", "unsub"))][-2:] == [
            f"unsubscribe {alice.jid.partition('/')[0]} -> {bare}",
            f"unsubscribed {alice.jid.partition('/')[0]} -> {bare}",
        ]
