"""Bytes on a socket, for tests of what a server does with input that no client library would send."""

import asyncio
import base64
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from homeserver.protocol import namespaces as ns
from tests.kit.server import Account, Endpoint

CLOSE: Final = b"</stream:stream>"

_CONDITION: Final = re.compile(
    rb"<(?:[\w.-]+:)?error\b[^>]*>\s*<(?:[\w.-]+:)?([a-z-]+) xmlns(?::\w+)?=['\"]" + ns.STREAM_ERRORS.encode()
)


def header(domain: str, *, declaration: str = "<?xml version='1.0'?>", namespace: str = ns.CLIENT) -> bytes:
    """A stream header of a client."""
    return (
        f"{declaration}<stream:stream to='{domain}' version='1.0' xmlns='{namespace}' xmlns:stream='{ns.STREAM}'>"
    ).encode()


def plain(account: Account) -> bytes:
    """The ``<auth/>`` of SASL PLAIN."""
    first = base64.b64encode(f"\0{account.local}\0{account.password}".encode()).decode()
    return f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{first}</auth>".encode()


def stream_error(heard: bytes) -> str | None:
    """The condition of the stream error in ``heard`` (RFC 6120 s4.9.3), or None."""
    found = _CONDITION.search(heard)
    return None if found is None else found[1].decode()


def resident_bytes(pid: int) -> int:
    """Physical memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError(f"process {pid} has no memory")
    return int(found[1]) * 1024


class Wire:
    """One cleartext connection; keeps everything it heard. A plain socket: what the peer said before it reset the
    connection can still be read, which asyncio's streams would throw away."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.closed = False

    async def send(self, data: bytes, chunk: int = 0, timeout: float = 30.0) -> None:
        """Write, in pieces of ``chunk`` bytes if that is not 0. What the peer does not take any more is dropped: a
        server may close in the middle of an attack. TimeoutError if it neither takes nor closes."""
        loop = asyncio.get_running_loop()
        size = chunk or len(data) or 1
        async with asyncio.timeout(timeout):
            try:
                for start in range(0, len(data), size):
                    await loop.sock_sendall(self.sock, data[start : start + size])
                    if chunk:
                        await asyncio.sleep(0)
            except OSError:
                return

    async def until(self, *wanted: bytes, timeout: float = 5.0) -> bytes:
        """Read until one of ``wanted`` was heard, or the end; what came since the last call. TimeoutError if neither."""
        begun = len(self.heard)
        async with asyncio.timeout(timeout):
            while not any(one in self.heard[begun:] for one in wanted):
                if not await self._read():
                    break
        return self.heard[begun:]

    async def rest(self, timeout: float = 5.0) -> bytes:
        """Read to the end of the connection; all that was ever heard. TimeoutError if it stays open."""
        async with asyncio.timeout(timeout):
            while await self._read():
                pass
        return self.heard

    async def _read(self) -> bool:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        except OSError:
            data = b""
        self.heard += data
        self.closed = self.closed or not data
        return bool(data)

    async def login(self, domain: str, account: Account, resource: str = "wire") -> None:
        """Cleartext login with SASL PLAIN, and bind; RuntimeError if refused."""
        await self.send(header(domain))
        await self.until(b"</stream:features>")
        await self.send(plain(account))
        answer = await self.until(b"<success", b"<failure")
        if b"<success" not in answer:
            raise RuntimeError(f"no login: {answer!r}")
        await self.send(header(domain))
        await self.until(b"</stream:features>")
        await self.send(
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>{resource}</resource></bind></iq>".encode()
        )
        answer = await self.until(b"</iq>")
        if b"<jid>" not in answer:
            raise RuntimeError(f"no resource: {answer!r}")

    async def ping(self, name: str, timeout: float = 5.0) -> bytes:
        """An XEP-0199 ping to the server; what came up to its answer."""
        await self.send(f"<iq type='get' id='{name}'><ping xmlns='{ns.PING}'/></iq>".encode())
        return await self.until(f"id='{name}'".encode(), f'id="{name}"'.encode(), timeout=timeout)


@asynccontextmanager
async def wire(endpoint: Endpoint, source: str = "127.0.0.1", receive_buffer: int = 0) -> AsyncIterator[Wire]:
    """A cleartext connection to ``endpoint`` from the address ``source``; ``receive_buffer``: bytes the kernel may hold
    for us (0: its own choice)."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((source, 0))
        async with asyncio.timeout(10):
            await asyncio.get_running_loop().sock_connect(sock, (endpoint.host, endpoint.port))
        yield Wire(sock)
