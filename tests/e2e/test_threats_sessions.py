"""Stream management in the wrong hands, against a real node: S-80 to S-83."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode
from tests.kit.client_stream import RawClient, StreamEnded
from tests.kit.node import HOST, ParleyServer
from tests.kit.wire import CLOSE, header, stream_error, wire

UNKNOWN = f"{{{ns.STANZA_ERRORS}}}item-not-found"


@asynccontextmanager
async def client(node: ParleyServer, name: str) -> AsyncIterator[RawClient]:
    """A bound client."""
    made = RawClient(HOST, node.ports.xmpp, node.domain, timeout=20)
    await made.login(name, f"secret-{name}")
    try:
        yield made
    finally:
        made.abort()


@asynccontextmanager
async def proven(node: ParleyServer, name: str) -> AsyncIterator[RawClient]:
    """A client that logged in and has no resource."""
    made = RawClient(HOST, node.ports.xmpp, node.domain, timeout=20)
    await made.connect()
    try:
        await made.open()
        await made.authenticate(name, f"secret-{name}")
        yield made
    finally:
        made.abort()


async def test_s80_a_stolen_session_id_is_worth_nothing_to_another(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        await ann.enable()
        assert len(ann.sm_id) >= 22  # 128 bits and more
        async with proven(node, "bob") as bob:
            stolen = await bob.resume(ann.sm_id, 0)
            made_up = await bob.resume("A" * len(ann.sm_id), 0)
            assert stolen.tag == made_up.tag == f"{{{ns.STREAM_MANAGEMENT}}}failed"
            assert [part.tag for part in stolen] == [part.tag for part in made_up] == [UNKNOWN]
        ann.abort()
        async with proven(node, "bob") as bob:
            # the same while the session sleeps
            assert [part.tag for part in await bob.resume(ann.sm_id, 0)] == [UNKNOWN]
        async with proven(node, "ann") as again:
            assert (await again.resume(ann.sm_id, 0)).tag == f"{{{ns.STREAM_MANAGEMENT}}}resumed"


async def test_s80_nor_after_a_restart(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with client(node, "ann") as ann:
        await ann.enable()
        await node.kill9()
        await node.start()
        async with proven(node, "bob") as bob:
            assert [part.tag for part in await bob.resume(ann.sm_id, 0)] == [UNKNOWN]
        async with proven(node, "ann") as again:
            assert (await again.resume(ann.sm_id, 0)).tag == f"{{{ns.STREAM_MANAGEMENT}}}resumed"


@pytest.mark.parametrize("h", ["1000", "4294967295", "4294967296", "-1", "x", ""])
async def test_s81_more_acknowledged_than_was_sent(node: ParleyServer, h: str) -> None:
    async with client(node, "ann") as ann:
        await ann.enable()
        await ann.send(f"<a xmlns='{ns.STREAM_MANAGEMENT}' h='{h}'/>")
        assert await ann.expect_end() != ""


async def test_s81_more_acknowledged_than_was_sent_at_resumption(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        await ann.enable()
        ann.abort()
        async with proven(node, "ann") as again:
            try:
                answer = await again.resume(ann.sm_id, 4_000_000)
            except StreamEnded:
                return
            assert answer.tag == f"{{{ns.STREAM_MANAGEMENT}}}failed" or await again.expect_end() != ""


async def test_s82_enabling_twice_ends_the_stream(node: ParleyServer) -> None:
    async with client(node, "ann") as ann:
        await ann.enable()
        assert (await ann.enable()).tag == f"{{{ns.STREAM_MANAGEMENT}}}failed"
        assert await ann.expect_end() != ""


@pytest.mark.parametrize("element", ["enable", "resume previd='x' h='0'", "r", "a h='0'"])
async def test_s82_nothing_before_login(node: ParleyServer, element: str) -> None:
    async with wire(node.endpoint) as peer:
        name, _, attributes = element.partition(" ")
        await peer.send(header(node.domain))
        await peer.until(b"</stream:features>")
        await peer.send(f"<{name} xmlns='{ns.STREAM_MANAGEMENT}' {attributes}/>".encode())
        answer = await peer.until(b"<failed", CLOSE)
    assert b"<resumed" not in answer
    assert b"<enabled" not in answer
    assert b"<failed" in answer or stream_error(answer) is not None


async def test_s83_who_never_acknowledges_is_ended_and_loses_nothing(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_stanzas": 100}})
    await node.start()
    async with client(node, "bob") as bob, client(node, "ann") as ann:
        await bob.enable()
        await bob.send("<presence/>")
        # what waits before is given at the client's own pace; this is about what comes after
        await bob.request("get", f"<ping xmlns='{ns.PING}'/>", node.domain)
        await bob.send(f"<message to='bob@{node.domain}' type='headline'><body>first</body></message>")
        await bob.expect(lambda e: e.findtext(f"{{{ns.CLIENT}}}body") == "first")
        for number in range(150):
            await ann.send(f"<message to='bob@{node.domain}' type='chat' id='{number}'><body>{number}</body></message>")
        async with asyncio.timeout(30):
            assert await bob.expect_end() == "policy-violation"
    async with client(node, "bob") as again:
        await again.send("<presence/>")
        found = [await again.expect(lambda e: e.tag == f"{{{ns.CLIENT}}}message") for _ in range(150)]
    assert [message.findtext(f"{{{ns.CLIENT}}}body") for message in found] == [str(n) for n in range(150)]


async def test_s83_the_end_of_one_session_hides_nothing_from_the_others(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_stanzas": 100}})
    await node.start()
    async with client(node, "bob") as deaf, client(node, "bob") as bob, client(node, "ann") as ann:
        for one in (deaf, bob):
            await one.send("<presence/>")
            await one.request("get", f"<ping xmlns='{ns.PING}'/>", node.domain)
        await deaf.enable()
        for number in range(150):
            await ann.send(f"<message to='bob@{node.domain}' type='chat' id='{number}'><body>{number}</body></message>")
        found = [await bob.expect(lambda e: e.tag == f"{{{ns.CLIENT}}}message") for _ in range(150)]
        assert await deaf.expect_end() == "policy-violation"
    assert [message.findtext(f"{{{ns.CLIENT}}}body") for message in found] == [str(n) for n in range(150)]


async def test_s83_the_bound_holds_in_bytes_and_for_sessions_that_sleep(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_bytes": "64 KiB"}})
    await node.start()
    text = "z" * 10_000
    async with client(node, "bob") as bob, client(node, "ann") as ann:
        await bob.enable()
        await bob.send("<presence/>")
        await bob.request("get", f"<ping xmlns='{ns.PING}'/>", node.domain)
        bob.abort()
        await ann.enable()
        for number in range(10):
            await ann.send(f"<message to='bob@{node.domain}' type='chat' id='{number}'><body>{text}</body></message>")
        while await ann.handled() < 10:
            pass
        async with proven(node, "bob") as again:
            assert (await again.resume(bob.sm_id, bob.received)).tag == f"{{{ns.STREAM_MANAGEMENT}}}failed"
    async with client(node, "bob") as again:
        await again.send("<presence/>")
        found = [await again.expect(lambda e: e.tag == f"{{{ns.CLIENT}}}message") for _ in range(10)]
    assert [message.get("id") for message in found] == [str(number) for number in range(10)]


async def test_s83_what_comes_while_a_client_catches_up_is_bounded(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"resume_stanzas": 100}})
    await node.start()
    message = "<message to='bob@{}' type='chat' id='{}'><body>{}</body></message>"
    async with client(node, "ann") as ann, client(node, "bob") as bob:
        await ann.enable()
        for number in range(70):
            await ann.send(message.format(node.domain, number, "x"))
        while await ann.handled() < 70:
            pass
        # it is given half of what may be unacknowledged, and then nothing until it acknowledges
        await bob.enable()
        await bob.send("<presence/>")
        await bob.expect(lambda e: e.get("id") == "40")
        for number in range(100):
            await ann.send(message.format(node.domain, f"big{number}", "z" * 200_000))
        async with asyncio.timeout(40):
            assert await bob.expect_end() == "policy-violation"


async def test_s144_one_account_has_a_bounded_number_of_sessions(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"], extra={"limits": {"sessions_per_account": 4}})
    await node.start()
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(client(node, "ann"))
        more = await stack.enter_async_context(proven(node, "ann"))
        for _ in range(3):
            answer = await more.request("set", f"<bind xmlns='{ns.BIND}'/>")
            assert answer.get("type") == "error"
            assert answer[0][0].tag == f"{{{ns.STANZA_ERRORS}}}resource-constraint"
        await stack.enter_async_context(client(node, "bob"))  # others are not concerned
    async with client(node, "ann") as again:
        assert (await again.request("get", f"<ping xmlns='{ns.PING}'/>")).get("type") == "result"
