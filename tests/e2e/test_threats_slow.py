"""HTTP clients that take their time, and a server that runs out of descriptors: S-146, S-147."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from client_api.http import app, endpoint, files
from client_api.http.app import Hosts, HttpServer, build_http
from client_api.http.endpoint import Gate
from client_api.xmpp import bosh
from config.settings import HttpSettings, LimitSettings
from homeserver.services.limits import Limits
from tests.e2e.conftest import MakeNode
from tests.kit.json_server import JsonServer, json_server
from tests.kit.wire import wire

TOO_LATE = b"HTTP/1.1 408 "
SHORT = 0.6
DRIP = 0.05
PATIENCE = 20.0


async def drip(port: int, head: str, byte: bytes = b"a") -> tuple[bytes, float]:
    """Send ``head``, then one byte after the other until the server closes; what it said, and the time it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.monotonic()
    heard = b""
    try:
        writer.write(head.replace("\n", "\r\n").encode())
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    data = await asyncio.wait_for(reader.read(65_536), DRIP)
                except TimeoutError:
                    writer.write(byte)
                    continue
                except ConnectionError:
                    break
                if not data:
                    break
                heard += data
    finally:
        writer.close()
    return heard, time.monotonic() - begun


def port_of(server: JsonServer) -> int:
    return urlsplit(server.url).port or 0


@pytest.fixture
async def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JsonServer]:
    """A server that is as patient as a test can wait."""
    monkeypatch.setattr(app, "KEEPALIVE", SHORT)
    monkeypatch.setattr(endpoint, "BODY_TIME", SHORT)
    monkeypatch.setattr(files, "PATIENCE", SHORT)
    async with json_server(tmp_path / "data" / "parley.db", first_request=SHORT) as made:
        yield made


async def test_s146_a_slow_head(quick: JsonServer) -> None:
    heard, took = await drip(port_of(quick), "GET /healthz HTTP/1.1\nHost: localhost\nX-Slow: ")
    assert heard.startswith(TOO_LATE)
    assert took < 5


async def test_s146_a_slow_head_behind_a_request_that_was_answered(quick: JsonServer) -> None:
    first = "GET /healthz HTTP/1.1\nHost: localhost\n\n"
    heard, took = await drip(port_of(quick), first + "GET /healthz HTTP/1.1\nHost: localhost\nX-Slow: ")
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert took < 5


async def test_s146_a_slow_body(quick: JsonServer) -> None:
    head = "POST /v1/sessions HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 100000\n\n"
    heard, took = await drip(port_of(quick), head, b" ")
    assert heard.startswith(TOO_LATE)
    assert took < PATIENCE


async def test_s146_a_slow_file(quick: JsonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SLOWEST", 1 << 30)
    await quick.token("alice")
    alice = await quick.accounts.find("alice@a.example")
    assert alice is not None
    permit = await quick.files.permit(alice, "a.txt", 100_000, "text/plain")
    head = (
        f"PUT {urlsplit(permit.url).path} HTTP/1.1\nHost: localhost\nContent-Type: text/plain\n"
        f"Authorization: Bearer {permit.token}\nContent-Length: 100000\n\n"
    )
    heard, took = await drip(port_of(quick), head)
    assert heard.startswith(TOO_LATE)
    assert took < PATIENCE
    assert quick.files.running == 0
    async with quick.http.get(permit.url) as answer:
        assert answer.status == 404


async def test_s146_a_slow_request_over_bosh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bosh, "BODY_SECONDS", SHORT)
    face = bosh.BoshFace(cast(Any, None), 65_536)
    gate = Gate(cast(Any, None), Limits(LimitSettings(off_on_loopback=True), time.monotonic), 65_536)
    built = build_http([], face.routes(), gate, HttpSettings(), Hosts(frozenset(("localhost",))), "https://a.example")
    server = HttpServer(built)
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", 0)
    try:
        head = f"POST {bosh.PATH} HTTP/1.1\nHost: localhost\nContent-Length: 10000\n\n<body "
        heard, took = await drip(listener.sockets[0].getsockname()[1], head, b" ")
    finally:
        listener.close()
        await server.stop()
    assert heard.startswith(TOO_LATE)
    assert took < PATIENCE
    assert face.open == 0


async def test_s146_a_crowd_that_stays_connected(quick: JsonServer) -> None:
    crowd = [await asyncio.open_connection("127.0.0.1", port_of(quick)) for _ in range(300)]
    for _, writer in crowd:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    begun = time.monotonic()
    async with quick.http.get(quick.url + "/healthz") as answer:
        assert answer.status == 200
    assert time.monotonic() - begun < 5
    async with asyncio.timeout(PATIENCE):
        for reader, writer in crowd:
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()


def busy(pid: int) -> float:
    """Seconds of processor time that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """A process may open so many more descriptors than it has."""
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())) + spare, old[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)


async def test_s147_no_descriptors_left(make_node: MakeNode) -> None:
    node = make_node(["ann", "bob"])
    await node.start()
    async with wire(node.endpoint) as ann, wire(node.endpoint) as bob:
        await ann.login(node.domain, node.accounts[0])
        await bob.login(node.domain, node.accounts[1])
        await bob.send(b"<presence/>")
        assert b"ready" in await bob.ping("ready")
        with few_descriptors(node.pid, 60):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(120):
                    await stack.enter_async_context(wire(node.endpoint))
                async with asyncio.timeout(PATIENCE):
                    while "cannot accept" not in node.log_tail():
                        assert b"waits" in await ann.ping("waits")
                before, begun = busy(node.pid), time.monotonic()
                for number in range(20):
                    await ann.send(
                        f"<message to='bob@{node.domain}' type='chat'><body>text {number}</body></message>".encode()
                    )
                    assert f"text {number}<".encode() in await bob.until(f"text {number}<".encode())
                while time.monotonic() - begun < 2:
                    await asyncio.sleep(0.1)
                assert busy(node.pid) - before < 1, "the server spins"
            async with wire(node.endpoint) as late:
                await late.login(node.domain, node.accounts[0], "late")
