"""Uploads by clients that others wrote, by what a browser does, and over a killed server (XEP-0363)."""

import asyncio
import hashlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import slixmpp
from slixmpp.exceptions import IqError

from tests.kit.authority import Authority
from tests.kit.node import HOST, ParleyServer
from tests.kit.slix import PLUGINS, Slix

SENDXMPP = shutil.which("go-sendxmpp")
MIB = 1024**2
SERVICE = "upload.parley.example"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ParleyServer]:
    """A server of this module; each test uses an account of its own."""
    made = ParleyServer(
        tmp_path_factory.mktemp("upload"),
        authority,
        ("ann", "bob", "cat", "dan", "eve"),
        extra={"upload": {"max_bytes": "20 MiB", "reserve": 0}},
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.kill9())


def device(node: ParleyServer, name: str) -> Slix:
    account = next(found for found in node.accounts if found.local == name)
    return Slix(node.endpoint, account, plugins=(*PLUGINS, "xep_0363"))


def trusting(node: ParleyServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(node.authority.ca_file))


@asynccontextmanager
async def browser(node: ParleyServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(node))) as http:
        yield http


async def slot(client: Slix, name: str, size: int, kind: str) -> tuple[str, str, dict[str, str]]:
    """PUT address, GET address and headers, as slixmpp reads them."""
    answer = await client.plugin(363).request_slot(slixmpp.JID(SERVICE), name, size, kind, timeout=10)
    found = answer["http_upload_slot"]
    headers = {header["name"]: header["value"] for header in found["put"]["headers"]}
    return found["put"]["url"], found["get"]["url"], headers


async def test_slixmpp_finds_the_service_and_uploads(
    node: ParleyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting(node))
    path = tmp_path / "très cool & 100%.png"
    path.write_bytes(os.urandom(3 * MIB))
    async with device(node, "ann") as ann, browser(node) as http:
        url = await ann.plugin(363).upload_file(path, timeout=10)
        async with http.get(url) as answer:
            assert await answer.read() == path.read_bytes()
            assert answer.headers["Content-Type"] == "image/png"
        large = tmp_path / "large"
        with large.open("wb") as file:
            file.truncate(20 * MIB + 1)
        with pytest.raises(Exception, match="20"):
            await ann.plugin(363).upload_file(large, timeout=10)
        with pytest.raises(IqError) as refused:
            await slot(ann, "a", 20 * MIB + 1, "text/plain")
        assert refused.value.condition == "not-acceptable"


@pytest.mark.heavy
@pytest.mark.skipif(SENDXMPP is None, reason="go-sendxmpp is not installed")
async def test_sendxmpp_uploads(node: ParleyServer, tmp_path: Path) -> None:
    assert SENDXMPP is not None
    path = tmp_path / "from go.txt"
    path.write_bytes(b"from go " * 10_000)
    async with device(node, "bob") as bob, browser(node) as http:
        port = node.endpoint_for("starttls").port
        login = ["-u", f"cat@{node.domain}", "-p", "secret-cat", "-j", f"{HOST}:{port}"]
        process = await asyncio.create_subprocess_exec(
            *[SENDXMPP, *login, "--http-upload", str(path), f"bob@{node.domain}"],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "SSL_CERT_FILE": str(node.authority.ca_file)},
        )
        said, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, said.decode()
        await bob.until(lambda: bob.bodies)
        async with http.get(bob.bodies[0]) as answer:
            assert (answer.status, await answer.read()) == (200, path.read_bytes())


async def test_what_a_browser_asks_before_it_uploads(node: ParleyServer) -> None:
    """A web client of another origin: preflight, PUT with the headers of the slot, GET, a refusal it can read."""
    origin = {"Origin": "https://chat.elsewhere.example"}
    async with device(node, "dan") as dan, browser(node) as http:
        put, get, headers = await slot(dan, "a.ogg", 5, "audio/ogg")
        asked = {"Access-Control-Request-Headers": "authorization,content-type", "Access-Control-Request-Method": "PUT"}
        async with http.options(put, headers=origin | asked) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "PUT" in answer.headers["Access-Control-Allow-Methods"].split(", ")
            allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
            assert {"authorization", "content-type"} <= set(allowed)
            assert "Access-Control-Allow-Credentials" not in answer.headers
        lower = {name.lower(): value for name, value in headers.items()} | {"content-type": "audio/ogg"}
        async with http.put(put, data=b"wrong size", headers=origin | lower) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (413, "*")
        async with http.put(put, data=b"sound", headers=origin | lower) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (201, "*")
        async with http.get(get, headers=origin) as answer:
            assert await answer.read() == b"sound"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            tag = answer.headers["ETag"]
            assert tag == f'"{hashlib.sha256(b"sound").hexdigest()}"'
        async with http.get(get, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with http.head(get) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "5")
        # Elsewhere the rule stays: no page of another origin reads the JSON API.
        async with http.options(f"{node.base_url}/v1/messages", headers=origin | asked) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_killed_in_the_middle_of_an_upload(node: ParleyServer) -> None:
    """What was answered 201 is there after kill -9; of what was not, nothing is, and its slot still works."""
    content = os.urandom(8 * MIB)
    before = _bytes(node.data / "uploads")
    async with device(node, "eve") as eve, browser(node) as http:
        put, get, headers = await slot(eve, "whole.bin", len(content), "application/octet-stream")
        half_put, half_get, half_headers = await slot(eve, "half.bin", len(content), "application/octet-stream")
        kind = {"Content-Type": "application/octet-stream"}
        async with http.put(put, data=content, headers=headers | kind) as answer:
            assert answer.status == 201
        flowing = asyncio.Event()

        async def trickle() -> AsyncIterator[bytes]:
            yield content[: 5 * MIB]
            flowing.set()
            await asyncio.Event().wait()

        lengths = {"Content-Length": str(len(content))}
        broken = asyncio.ensure_future(http.put(half_put, data=trickle(), headers=half_headers | kind | lengths))
        await flowing.wait()
        await _until(lambda: _bytes(node.data / "uploads" / "incoming") >= 4 * MIB)
        await node.kill9()
        with pytest.raises(aiohttp.ClientError):
            await broken
        eve.cut()
    await node.start()
    async with browser(node) as http:
        async with http.get(get) as answer:
            assert await answer.read() == content
        async with http.get(half_get) as answer:
            assert answer.status == 404
        assert _bytes(node.data / "uploads" / "incoming") == 0
        assert _bytes(node.data / "uploads") == before + len(content)
        async with http.put(half_put, data=content, headers=half_headers | kind) as answer:
            assert answer.status == 201
        async with http.put(half_put, data=content, headers=half_headers | kind) as answer:
            assert answer.status == 409
        async with http.get(half_get) as answer:
            assert await answer.read() == content


async def test_memory_does_not_grow_with_the_file(node: ParleyServer) -> None:
    content = bytes(18 * MIB)
    async with browser(node) as http:
        body = {"username": "ann", "password": "secret-ann"}
        async with http.post(f"{node.base_url}/v1/sessions", json=body) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        sizes = []
        for size in (MIB, 18 * MIB):
            async with http.post(f"{node.base_url}/v1/files?name=a", data=content[:size], headers=headers) as answer:
                made: dict[str, Any] = await answer.json()
                assert answer.status == 201, made
                assert urlsplit(made["url"]).path == f"/files/{made['file_id']}/a"
            async with http.get(made["url"]) as answer:
                assert len(await answer.read()) == size
            sizes.append(_peak_bytes(node.pid))
        assert sizes[1] - sizes[0] < 8 * MIB


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _peak_bytes(pid: int) -> int:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
