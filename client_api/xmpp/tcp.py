"""XMPP over TCP: ports 5222 (STARTTLS) and 5223 (TLS from the first byte, XEP-0368).

All connections of a process read into one buffer: asyncio hands a buffer over for the length of one call only, and a
private one would cost every idle connection 64 KiB, or every read an allocation.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import structlog

from client_api.xmpp.connection import Wire
from homeserver.listeners import Certificates

log = structlog.get_logger(__name__)

RECEIVE_BYTES: Final = 65536
HIGH_WATER: Final = 256 * 1024


class Receiver(Protocol):
    """What a socket's bytes are for."""

    def received(self, data: bytes) -> None:
        """Bytes that came."""

    def lost(self) -> None:
        """The wire is gone."""

    def congested(self, is_congested: bool) -> None:
        """The wire's buffer is full, or empty again."""


MakeConnection = Callable[[Wire, str, dict[str, bytes] | None], Receiver]
"""From wire, peer address and the channel bindings of TLS (None without TLS), a connection."""
HANDSHAKE_SECONDS: Final = 30.0


class Tls:
    """What TLS a listener does: a context for new handshakes, and the channel bindings of finished ones."""

    def __init__(self, certificates: Certificates, alpn: Sequence[str] = ()) -> None:
        self._certificates = certificates
        self._alpn = tuple(alpn)

    def context(self) -> ssl.SSLContext:
        return self._certificates.context(self._alpn)

    def bindings(self, transport: asyncio.BaseTransport, begun: ssl.SSLContext | None = None) -> dict[str, bytes]:
        """``tls-server-end-point`` of the certificate this connection was shown (RFC 5929 s4)."""
        tls = transport.get_extra_info("ssl_object")
        context = getattr(tls, "context", None) or begun
        found = self._certificates.end_point(context)
        return {} if found is None else {"tls-server-end-point": found}


class ReceiveBuffer:
    """The buffer that all connections of one listener share."""

    __slots__ = ("memory",)

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(RECEIVE_BYTES))


class TcpConnection(asyncio.BufferedProtocol):
    """One socket. Owns the transport, knows no XMPP."""

    __slots__ = ("_buffer", "_connection", "_held", "_make", "_tls", "_transport", "_upgrading", "address")

    def __init__(self, make: MakeConnection, buffer: ReceiveBuffer, tls: Tls) -> None:
        self._make = make
        self._tls = tls
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._connection: Receiver | None = None
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
            secure = transport.get_extra_info("sslcontext") is not None
            bindings = self._tls.bindings(transport, self._tls.context()) if secure else None
            self._connection = self._make(self, self.address, bindings)

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

    def write(self, data: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.write(data[0] if len(data) == 1 else b"".join(data))

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

    async def start_tls(self) -> dict[str, bytes] | None:
        """Upgrade in place (RFC 6120 s5.4.3.3). Decrypted bytes that come before this returns are held back."""
        transport = self._transport
        if transport is None:
            return None
        self._upgrading = True
        context = self._tls.context()
        try:
            upgraded = await asyncio.get_running_loop().start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.info("TLS handshake failed", address=self.address, reason=str(error)[:200])
            transport.abort()
            return None
        if upgraded is None:
            return None
        self._transport = upgraded
        upgraded.set_write_buffer_limits(high=HIGH_WATER, low=0)
        asyncio.get_running_loop().call_soon(self._upgraded)
        return self._tls.bindings(upgraded, context)

    def _upgraded(self) -> None:
        self._upgrading = False
        held, self._held = self._held, b""
        if held and self._connection is not None:
            self._connection.received(held)


def is_loopback(address: str) -> bool:
    """Whether a peer address is on this machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "unix"
