"""Hostile HTTP and WebSocket against a real node over TLS: S-38, S-130 to S-139."""

import asyncio
import base64
import contextlib
import gzip
import json
import os
import ssl
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.kit.node import HOST, ParleyServer
from tests.kit.wire import resident_bytes

MASK = b"\x01\x02\x03\x04"


def context(node: ParleyServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=node.authority.ca_file)


class Https:
    """One TLS connection to the https listener, by bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """What the server does not take any more is dropped."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self, timeout: float = 20) -> bytes:
        """All that comes up to the end of the connection."""
        heard = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(timeout):
                while data := await self.reader.read(65536):
                    heard += data
        return heard

    async def upgrade(self, path: str, more: str = "") -> bytes:
        """A WebSocket handshake; the head of the answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(
            f"GET {path} HTTP/1.1\r\nHost: parley.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
        )
        async with asyncio.timeout(20):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def close_code(self) -> int:
        """The code of the close frame, past other frames; 0 when the connection ends without one."""
        heard = await self.rest()
        while len(heard) >= 2:
            size, start = heard[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(heard[2:4]), 4
            elif size == 127:
                size, start = int.from_bytes(heard[2:10]), 10
            if heard[0] & 15 == 8:
                return int.from_bytes(heard[start : start + 2])
            heard = heard[start + size :]
        return 0


def frame(data: bytes, *, opcode: int = 1, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One WebSocket frame of a client (RFC 6455 s5.2)."""
    first = bytes(((128 if final else 0) | reserved << 4 | opcode,))
    bit = 128 if masked else 0
    size = len(data)
    if size < 126:
        head = first + bytes((bit | size,))
    elif size < 65536:
        head = first + bytes((bit | 126,)) + struct.pack(">H", size)
    else:
        head = first + bytes((bit | 127,)) + struct.pack(">Q", size)
    if not masked:
        return head + data
    return head + MASK + bytes(byte ^ MASK[number % 4] for number, byte in enumerate(data))


@contextlib.asynccontextmanager
async def https(node: ParleyServer) -> AsyncIterator[Https]:
    reader, writer = await asyncio.open_connection(
        HOST, node.ports.https, ssl=context(node), server_hostname=node.domain
    )
    try:
        yield Https(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def session(node: ParleyServer) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=context(node))
    async with aiohttp.ClientSession(node.base_url, connector=connector) as made:
        yield made


async def token(http: aiohttp.ClientSession, node: ParleyServer, name: str) -> dict[str, str]:
    """Headers of a fresh login."""
    async with http.post("/v1/sessions", json={"username": name, "password": f"secret-{name}"}) as answer:
        assert answer.status == 201
        return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}


SOCKETS = {
    "xmpp": ("/xmpp-websocket", "Sec-WebSocket-Protocol: xmpp\r\n"),
    "json": ("/v1/ws", ""),
}


@pytest.mark.parametrize("kind", SOCKETS)
@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (frame(b"x", masked=False), {1002}),
        (frame(b"", opcode=9) * 3 + frame(b"x" * 70_000, opcode=1, final=False) + frame(b"", masked=False), {1002}),
        (frame(b"x", opcode=3), {1002}),
        (frame(b"x", reserved=2), {1002}),
        (frame(b"x" * 200, opcode=9), {1002}),
        (frame(b"x", opcode=9, final=False), {1002}),
        (frame(b"x", opcode=0), {1002}),
        (frame(b"\xff\xfe"), {1007}),
        (frame(b"x", opcode=2), {1003, 4400}),
        (bytes((129, 255)) + struct.pack(">Q", 2**40) + MASK, {1009}),
        (bytes((129, 255)) + struct.pack(">Q", 2**63) + MASK, {1009, 1002}),
    ],
    ids=["unmasked", "unmasked later", "opcode", "reserved bit", "long ping", "split ping", "continuation of nothing", "no UTF-8",
         "binary", "huge", "negative size"],
)  # fmt: skip
async def test_s130_frames_that_are_refused(node: ParleyServer, kind: str, data: bytes, codes: set[int]) -> None:
    path, more = SOCKETS[kind]
    async with https(node) as peer:
        assert b" 101 " in await peer.upgrade(path, more)
        await peer.send(data)
        assert await peer.close_code() in codes


async def test_s130_many_small_pieces_of_one_huge_message(node: ParleyServer) -> None:
    async with https(node) as peer:
        assert b" 101 " in await peer.upgrade(*SOCKETS["xmpp"])
        piece = b" " * 60_000
        before = resident_bytes(node.pid)
        await peer.send(frame(piece, final=False))
        for _ in range(200):
            await peer.send(frame(piece, opcode=0, final=False))
        assert await peer.close_code() == 1009
        assert resident_bytes(node.pid) - before < 8 * 1024 * 1024


@pytest.mark.parametrize("more", ["", "Sec-WebSocket-Protocol: chat\r\n"])
async def test_s130_the_subprotocol_is_demanded(node: ParleyServer, more: str) -> None:
    async with https(node) as peer:
        assert b" 400 " in await peer.upgrade("/xmpp-websocket", more)


@pytest.mark.parametrize("kind", SOCKETS)
async def test_s38_compression_of_frames_is_not_agreed_on(node: ParleyServer, kind: str) -> None:
    path, more = SOCKETS[kind]
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezed.compress(b"\0" * 10_000_000) + squeezed.flush(zlib.Z_SYNC_FLUSH)
    async with https(node) as peer:
        head = await peer.upgrade(path, more + "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        assert b"permessage-deflate" not in head
        before = resident_bytes(node.pid)
        await peer.send(frame(bomb, reserved=4))
        assert await peer.close_code() == 1002
        assert resident_bytes(node.pid) - before < 8 * 1024 * 1024


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_s38_compressed_bodies_are_not_inflated(node: ParleyServer, coding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    async with session(node) as http:
        before = resident_bytes(node.pid)
        for path in ("/v1/sessions", "/login"):
            async with http.post(path, data=bomb, headers=headers) as answer:
                assert answer.status in (400, 413, 415)
        assert resident_bytes(node.pid) - before < 8 * 1024 * 1024


async def test_s131_a_foreign_page_gets_no_socket(node: ParleyServer) -> None:
    async with https(node) as peer:
        head = await peer.upgrade("/v1/ws", "Origin: https://evil.example\r\n")
    assert b" 403 " in head
    async with https(node) as peer:
        head = await peer.upgrade("/xmpp-websocket", "Sec-WebSocket-Protocol: xmpp\r\nOrigin: https://evil.example\r\n")
    # XMPP clients on other pages may connect: a browser adds nothing that would log them in
    assert b"Set-Cookie" not in head


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/v1/account", "/xmpp-websocket", "/docs"])
async def test_s133_foreign_host_names_are_misdirected(node: ParleyServer, path: str) -> None:
    async with https(node) as peer:
        await peer.send(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        assert b" 421 " in (await peer.rest()).partition(b"\r\n")[0]


async def test_s134_a_smuggled_request_is_not_answered(node: ParleyServer) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: parley.example\r\n\r\n"
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: parley.example\r\nContent-Type: application/json\r\n"
    for framing in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\tchunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length:\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    ):
        async with https(node) as peer:
            await peer.send(head + framing + smuggled)
            answer = await peer.rest()
        assert b"404" not in answer, framing
        assert answer.split(b" ")[1] == b"400", framing


@pytest.mark.parametrize(
    "header",
    ["Bearer x", "Bearer " + "a" * 7000, "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "bearer", "Basic eDp5"],
)
async def test_s135_nothing_is_shown_without_a_good_token(node: ParleyServer, header: str) -> None:
    async with session(node) as http:
        async with http.get("/openapi.json") as answer:
            document = await answer.json()
        tried = 0
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if not operation.get("security"):
                    continue
                tried += 1
                url = path.replace("{", "").replace("}", "")
                async with http.request(method, url, json={}, headers={"Authorization": header}) as answer:
                    assert answer.status == 401, (method, path)
        assert tried >= 12


async def test_s138_ids_of_others_are_answered_like_ids_that_do_not_exist(node: ParleyServer) -> None:
    async with session(node) as http:
        ann, cat = await token(http, node, "ann"), await token(http, node, "cat")
        body = {"to": f"bob@{node.domain}", "text": "secret-text", "client_id": os.urandom(6).hex()}
        async with http.post("/v1/messages", json=body, headers=ann) as answer:
            message = (await answer.json())["message_id"]
        async with http.get("/v1/devices", headers=ann) as answer:
            device = (await answer.json())["devices"][0]["id"]
        async with http.post("/v1/invites", json={}, headers=ann) as answer:
            invite = (await answer.json())["id"]
        async with http.post("/v1/files", data=b"x", headers={**ann, "Content-Type": "text/plain"}) as answer:
            file = (await answer.json())["file_id"]
        people = (f"bob@{node.domain}", f"nobody@{node.domain}")
        ids = {
            "message_id": (message, message + 1),
            "device_id": (device, "A" * len(device)),
            "invite_id": (invite, invite + 1),
            "file_id": (file, "0" * len(file)),
            "peer": ("bob", "bob"),
            "address": people,
            "contact": people,
            "jid": people,
            "domain": (node.domain, "other.example"),
            "kind": ("motd", "motd"),
        }
        async with http.get("/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        crawled = set()
        for path, methods in paths.items():
            names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
            assert set(names) <= set(ids), f"say in this test what an id of another account is in {path}"
            for method in methods:
                seen = []
                for which in (0, 1):
                    url = path
                    for name in names:
                        url = url.replace(f"{{{name}}}", str(ids[name][which]))
                    if names:
                        async with http.request(method, url, headers=cat) as answer:
                            seen.append((answer.status, without_id(await answer.read())))
                        crawled.add(path)
                assert not seen or seen[0] == seen[1], (method, path, seen)
                assert "secret-text" not in str(seen)
        assert len(crawled) >= 3
        async with http.get(f"/v1/messages/{message}", headers=ann) as answer:
            assert answer.status == 200
        async with http.get("/v1/devices", headers=ann) as answer:
            assert device in [made["id"] for made in (await answer.json())["devices"]]


def without_id(body: bytes) -> Any:
    """A JSON body without what is new in every answer."""
    if not body:
        return None
    found = json.loads(body)
    found.pop("request_id", None)
    return found


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=0", "limit=1001", "limit=1000000000", "limit=%31%00", "limit=", "limit=[]"]
)
async def test_s139_pages_have_a_size(node: ParleyServer, query: str) -> None:
    async with session(node) as http:
        ann = await token(http, node, "ann")
        for path in ("/v1/sync", "/v1/conversations", f"/v1/conversations/bob@{node.domain}/messages"):
            async with http.get(f"{path}?{query}", headers=ann) as answer:
                assert answer.status == 400, path


async def test_s139_a_place_in_the_mailbox_of_another_shows_only_the_own(node: ParleyServer) -> None:
    async with session(node) as http:
        ann, cat = await token(http, node, "ann"), await token(http, node, "cat")
        ids = []
        for number in range(3):
            body = {"to": f"bob@{node.domain}", "text": f"secret-{number}", "client_id": os.urandom(6).hex()}
            async with http.post("/v1/messages", json=body, headers=ann) as answer:
                ids.append((await answer.json())["message_id"])
        for query in (f"cursor={ids[0]}", "cursor=0", f"cursor={2**53 - 1}"):
            async with http.get(f"/v1/sync?{query}", headers=cat) as answer:
                assert "secret-" not in await answer.text()
        for query in (f"after={ids[0]}", f"before={ids[2]}"):
            async with http.get(f"/v1/conversations/bob@{node.domain}/messages?{query}", headers=cat) as answer:
                assert (await answer.json())["messages"] == []


async def test_s130_a_frame_in_one_packet_with_the_handshake_is_held_to_the_rules(node: ParleyServer) -> None:
    path, more = SOCKETS["json"]
    head = (
        f"GET {path} HTTP/1.1\r\nHost: parley.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(b'0' * 16).decode()}\r\n{more}\r\n"
    ).encode()
    for early, later, codes in (
        (frame(b"x", masked=False), b"", {1002}),
        (frame(b"{}", opcode=9)[:3], frame(b"{}", opcode=9)[3:] + frame(b"x", masked=False), {1002}),
        (frame(b'{"type":"x"}')[:5], frame(b'{"type":"x"}')[5:], {4400}),
    ):
        async with https(node) as peer:
            await peer.send(head + early)
            async with asyncio.timeout(20):
                assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(later)
            assert await peer.close_code() in codes
