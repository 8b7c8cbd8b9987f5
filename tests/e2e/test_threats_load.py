"""Clients that take more than their share: S-140 to S-143, S-161."""

import asyncio
import contextlib
import time

import pytest

from homeserver.protocol import namespaces as ns
from tests.e2e.conftest import MakeNode
from tests.e2e.test_threats_http import session
from tests.kit.node import ParleyServer
from tests.kit.server import Account
from tests.kit.wire import Wire, header, plain, resident_bytes, stream_error, wire

PING = f"<iq type='get' id='%d'><ping xmlns='{ns.PING}'/></iq>"


@pytest.fixture
async def short(make_node: MakeNode) -> ParleyServer:
    """A node that gives newcomers two seconds, and counts loopback addresses like any other."""
    made = make_node(["ann", "bob"], extra={"limits": {"unauthenticated_time": "2 seconds", "off_on_loopback": False}})
    await made.start()
    return made


@pytest.mark.parametrize("said", ["nothing", "half a header", "header", "half a stanza", "wrong password"])
async def test_s140_who_does_not_log_in_is_closed(short: ParleyServer, said: str) -> None:
    begin = header(short.domain)
    data = {
        "nothing": b"",
        "half a header": begin[:40],
        "header": begin,
        "half a stanza": begin + b"<auth xmlns='",
        "wrong password": begin + plain(short.accounts[0]).replace(b"</auth>", b"eHg=</auth>"),
    }[said]
    begun = time.monotonic()
    async with wire(short.endpoint) as peer:
        await peer.send(data)
        await peer.rest(timeout=10)
    assert time.monotonic() - begun < 6


async def test_s140_dripping_bytes_do_not_buy_time(short: ParleyServer) -> None:
    begun = time.monotonic()
    async with wire(short.endpoint) as peer:
        await peer.send(header(short.domain))
        while not peer.closed:
            await peer.send(b" ")
            with contextlib.suppress(TimeoutError):
                await peer.rest(timeout=0.2)
            assert time.monotonic() - begun < 6


async def test_s141_crowd_of_one_address_does_not_keep_others_out(make_node: MakeNode) -> None:
    node = make_node(["ann"], extra={"limits": {"off_on_loopback": False}})
    await node.start()
    async with contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(wire(node.endpoint, source="127.0.0.9")) for _ in range(600)]
        begun = time.monotonic()
        async with wire(node.endpoint, source="127.0.0.8") as ann:
            await ann.login(node.domain, node.accounts[0])
        assert time.monotonic() - begun < 5
        closed = 0
        for peer in crowd:
            with contextlib.suppress(TimeoutError):
                await peer.rest(timeout=0.01)
            closed += peer.closed
        assert closed >= 600 - 100


async def test_s142_client_that_never_reads_costs_bounded_memory(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob", "cat"])
    await node.start()
    ann, bob, cat = node.accounts
    text = "z" * 20_000
    # The server's own caches are full when this was sent to somebody who is not there.
    async with wire(node.endpoint) as sender:
        await sender.login(node.domain, ann)
        await flood(sender, cat, text, 1500)
    async with (
        wire(node.endpoint, receive_buffer=4096) as deaf,
        wire(node.endpoint) as sender,
        wire(node.endpoint) as neighbour,
    ):
        await deaf.login(node.domain, bob)
        await deaf.send(b"<presence/>")
        await deaf.ping("deaf")
        await sender.login(node.domain, ann)
        await neighbour.login(node.domain, cat)
        before = resident_bytes(node.pid)
        await flood(sender, bob, text, 3000)
        grown = resident_bytes(node.pid) - before
        assert b"neighbour" in await neighbour.ping("neighbour", timeout=10)
    assert grown < 30 * 1024 * 1024, f"{grown} bytes more for 60 MB that nobody reads"


async def flood(sender: Wire, to: Account, text: str, count: int) -> None:
    """Send as many messages, and wait now and then until the server has taken them."""
    message = f"<message to='{to.jid}' type='chat'><body>{text}</body></message>".encode()
    for number in range(count):
        await sender.send(message)
        if number % 100 == 99:
            await sender.ping(f"sent{number}", timeout=60)


@pytest.fixture
async def paced(make_node: MakeNode) -> ParleyServer:
    """A node whose accounts may send 40 stanzas and 100 kB in a second."""
    limits = {"stanzas_per_account": "40 per second", "bytes_per_account": "100000 per second"}
    made = make_node(["ann", "bob"], extra={"limits": {**limits, "off_on_loopback": False}})
    await made.start()
    return made


async def test_s143_who_sends_too_fast_is_read_slowly_and_loses_nothing(paced: ParleyServer) -> None:
    async with wire(paced.endpoint) as first, wire(paced.endpoint) as second, wire(paced.endpoint) as neighbour:
        await first.login(paced.domain, paced.accounts[0], "first")
        await second.login(paced.domain, paced.accounts[0], "second")
        await neighbour.login(paced.domain, paced.accounts[1])
        begun = time.monotonic()
        for peer in (first, second):
            await peer.send("".join(PING % number for number in range(100)).encode())
        assert b"neighbour" in await neighbour.ping("neighbour")
        for peer in (first, second):
            await peer.until(b"id='99'", timeout=60)
            assert [number for number in range(100) if f"id='{number}'".encode() not in peer.heard] == []
            assert stream_error(peer.heard) is None
        # 40 at once, the other 160 of the account at 40 in a second
        assert time.monotonic() - begun >= 3.5


async def test_s26_white_space_is_read_slowly(paced: ParleyServer) -> None:
    async with wire(paced.endpoint) as ann:
        await ann.login(paced.domain, paced.accounts[0])
        begun = time.monotonic()
        await ann.send(b" " * 500_000)
        assert b"after" in await ann.ping("after", timeout=60)
        assert time.monotonic() - begun >= 3


async def test_s143_flood_of_queries_does_not_slow_the_neighbour(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with wire(node.endpoint) as flooder, wire(node.endpoint) as neighbour:
        await flooder.login(node.domain, node.accounts[0])
        await neighbour.login(node.domain, node.accounts[1])

        async def flood() -> None:
            for begin in range(0, 20_000, 100):
                await flooder.send("".join(PING % number for number in range(begin, begin + 100)).encode())

        async def swallow() -> None:
            while await flooder.until(b"never heard", timeout=60):
                pass

        tasks = [asyncio.create_task(flood()), asyncio.create_task(swallow())]
        waits = []
        for number in range(50):
            begun = time.monotonic()
            assert f"n{number}".encode() in await neighbour.ping(f"n{number}")
            waits.append(time.monotonic() - begun)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert max(waits) < 2


async def test_s161_names_that_never_come_again_cost_bounded_memory(make_node: MakeNode) -> None:
    """Addresses, element names, resources and paths made up by a client fill caches once, and no more."""
    node = make_node(["ann"])
    await node.start()
    error = f"<error type='cancel'><gone xmlns='{ns.STANZA_ERRORS}'/></error>"

    async def round_of_names(sender: Wire, kind: str, count: int) -> None:
        for number in range(count):
            name = f"{kind}{number}"
            await sender.send(
                f"<message to='{name}@{node.domain}/{name}' type='error' id='{name}'>{error}"
                f"<{name} xmlns='urn:{name}' {name}='1'/></message>".encode()
            )
            if number % 200 == 199:
                await sender.ping(name, timeout=60)

    async with wire(node.endpoint) as sender:
        await sender.login(node.domain, node.accounts[0])
        await round_of_names(sender, "first", 18_000)
        before, labels = resident_bytes(node.pid), await metric_names(node)
        await round_of_names(sender, "second", 12_000)
        grown = resident_bytes(node.pid) - before
        assert await metric_names(node) == labels
    assert grown < 8 * 1024 * 1024, f"{grown} bytes more for 12 000 names"


async def metric_names(node: ParleyServer) -> set[str]:
    """The names and labels that ``/metrics`` shows, after requests that try to add to them."""
    async with session(node) as http:
        for number in range(50):
            async with http.request(f"VERB{number}", f"/path{number}", headers={"User-Agent": f"a{number}"}) as answer:
                assert answer.status in (400, 404, 405)
        async with http.get("/metrics") as answer:
            text = await answer.text()
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
