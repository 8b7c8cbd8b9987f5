"""Bind 2 as a client sees it (XEP-0386): the archive is described, and what waits is read there."""

import contextlib
import ssl
from collections.abc import AsyncIterator

from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import RawClient
from tests.kit.node import HOST, ParleyServer

BIND = f"<bind xmlns='{ns.BIND2}'/>"


def agent(identifier: str) -> str:
    return f"<user-agent id='{identifier}'/>"


@contextlib.asynccontextmanager
async def client(node: ParleyServer, name: str, inline: str) -> AsyncIterator[RawClient]:
    made = RawClient(HOST, node.ports.xmpp, node.domain)
    try:
        await made.connect()
        await made.open()
        await made.start_tls(ssl.create_default_context(cafile=str(node.authority.ca_file)))
        await made.authenticate2(name, f"secret-{name}", inline=inline)
        yield made
    finally:
        made.abort()


async def come(listener: RawClient) -> list[Element]:
    """What lies on the wire before the answer to a ping."""
    got: list[Element] = []
    await listener.send(f"<iq type='get' id='last' to='{listener.domain}'><ping xmlns='{ns.PING}'/></iq>")
    while True:
        found = await listener.recv_stanza()
        if found.get("id") == "last":
            return got
        got.append(found)


async def test_what_waits_is_told_by_the_archive_and_not_sent_twice(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    bob = f"bob@{node.domain}"
    async with client(node, "ann", BIND) as ann:
        await ann.send(f"<message to='{bob}' type='chat' id='m1'><body>one</body></message>")
        await ann.send(f"<message to='{bob}' type='chat' id='m2'><body>two</body></message>")
        await ann.send(
            f"<message to='{bob}' type='chat' id='m3'><body>three</body><no-permanent-store xmlns='{ns.HINTS}'/></message>"
        )
        await ann.request("get", f"<ping xmlns='{ns.PING}'/>", node.domain)
    async with client(node, "bob", BIND) as first:
        await first.send("<presence/>")
        given = await first.expect(lambda found: found.tag.endswith("}message"))
        assert given.findtext(f"{{{ns.CLIENT}}}body") == "three", "what no archive shows still has to be sent"
        assert [found for found in await come(first) if found.tag.endswith("}message")] == []
        described = await first.request("get", f"<metadata xmlns='{ns.ARCHIVE}'/>", bob)
        assert [part.tag.rpartition("}")[2] for part in described[0]] == ["start", "end"]


async def test_a_new_session_of_the_same_client_ends_the_old_one(make_node: MakeNode) -> None:
    node = make_node(["ann"])
    await node.start()
    same = agent("d4565fa7-4d72-4749-b3d3-740edbf87770") + BIND
    async with client(node, "ann", same) as old, client(node, "ann", same):
        condition = await old.expect_end()
        assert condition == "conflict"
