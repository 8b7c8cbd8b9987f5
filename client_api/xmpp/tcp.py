"""XMPP over TCP: ports 5222 (STARTTLS) and 5223 (TLS from the first byte, XEP-0368).

All connections of a process read into one buffer: asyncio hands a buffer over for the length of one call only, and a
private one would cost every idle connection 64 KiB, or every read an allocation.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from typing import Final, cast

import structlog

from client_api.xmpp.connection import Connection, Wire

log = structlog.get_logger(__name__)

RECEIVE_BYTES: Final = 65536
HIGH_WATER: Final = 256 * 1024
MakeConnection = Callable[[Wire, str, bool], Connection]
"""From wire, peer address and whether TLS is already there, a connection."""
Upgrade = Callable[[asyncio.Transport, asyncio.BaseProtocol, ssl.SSLContext], "asyncio.Future[asyncio.Transport]"]


class ReceiveBuffer:
    """The buffer that all connections of one listener share."""

    __slots__ = ("memory",)

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(RECEIVE_BYTES))


class TcpConnection(asyncio.BufferedProtocol):
    """One socket. Owns the transport, knows no XMPP."""

    __slots__ = ("_buffer", "_connection", "_held", "_make", "_transport", "_upgrading", "address")

    def __init__(self, make: MakeConnection, buffer: ReceiveBuffer) -> None:
        self._make = make
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._upgrading = False
        self._held = b""
        self.address = ""

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called again by the TLS layer after STARTTLS; the connection itself is made once."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=0)
        if self._connection is None:
            peer = transport.get_extra_info("peername")
            self.address = str(peer[0]) if isinstance(peer, tuple) else "unix"
            secure = transport.get_extra_info("ssl_object") is not None
            self._connection = self._make(self, self.address, secure)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer.memory

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer.memory[:nbytes])
        if self._upgrading:
            self._held += data  # decrypted bytes may come before start_tls() returns
        elif self._connection is not None:
            self._connection.received(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        connection, self._connection = self._connection, None
        self._transport = None
        if connection is not None:
            connection.lost()

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.congested(True)

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.congested(False)

    # --- Wire ---------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> bool:  # noqa: ASYNC109
        """Upgrade in place (RFC 6120 s5.4.3.3). False when the handshake failed; the socket is closed then."""
        transport = self._transport
        if transport is None:
            return False
        self._upgrading = True
        try:
            upgraded = await asyncio.get_running_loop().start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=timeout
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.info("TLS handshake failed", address=self.address, reason=str(error)[:200])
            transport.abort()
            return False
        if upgraded is None:
            return False
        self._transport = upgraded
        upgraded.set_write_buffer_limits(high=HIGH_WATER, low=0)
        return True

    def upgraded(self) -> None:
        """Take input again after `start_tls`; what came meanwhile is delivered first."""
        self._upgrading = False
        held, self._held = self._held, b""
        if held and self._connection is not None:
            self._connection.received(held)

    def tls_certificate(self) -> bytes | None:
        """DER of the certificate this side showed, for channel binding; None without TLS."""
        return None


def is_loopback(address: str) -> bool:
    """Whether a peer address is on this machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "unix"
