"""XMPP over WebSocket (RFC 7395), on the HTTPS listener."""

import asyncio
from collections import deque
from typing import Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from client_api.masking import MaskedSocket
from client_api.xmpp.tcp import MakeConnection, Receiver

log = structlog.get_logger(__name__)

SUBPROTOCOL: Final = "xmpp"
HEARTBEAT: Final = 60.0


class WebSocketWire:
    """Writes frames in order from one task; aiohttp's own writer waits, a wire may not."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()
        self.connection: Receiver | None = None

    def write(self, data: list[bytes]) -> None:
        """Queue a frame for each element."""
        if self._closing:
            return
        self._frames.extend(data)
        self._bytes += sum(map(len, data))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._drain())

    def unsent(self) -> int:
        return self._bytes

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def close(self) -> None:
        """Close after what is queued."""
        self._closing = True
        self._reading.set()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._drain())

    def abort(self) -> None:
        self._frames.clear()
        self._bytes = 0
        self.close()

    async def readable(self) -> None:
        """Wait until the connection takes more input."""
        await self._reading.wait()

    async def start_tls(self) -> dict[str, bytes] | None:
        """There is no STARTTLS inside a WebSocket (RFC 7395 s3.9)."""
        return None

    async def _drain(self) -> None:
        try:
            while self._frames:
                frame = self._frames.popleft()
                await self._socket.send_str(frame.decode())
                self._bytes -= len(frame)
            self._writer = None
            if self._closing:
                await self._socket.close()
            elif self.connection is not None:
                self.connection.congested(False)
        except (ConnectionError, RuntimeError) as error:
            log.info("websocket write failed", reason=str(error)[:200])
            self._frames.clear()


class WebSocketFace:
    """The handler of ``/xmpp-websocket``."""

    def __init__(self, make: MakeConnection, stanza_bytes: int) -> None:
        self._make = make
        self._stanza_bytes = stanza_bytes
        self.open = 0
        """Sockets that are open."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it closes (RFC 7395 s3)."""
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if SUBPROTOCOL not in (part.strip() for part in offered.split(",")):
            raise web.HTTPBadRequest(text="The subprotocol is xmpp (RFC 7395 s3.1)")
        socket = MaskedSocket(
            protocols=(SUBPROTOCOL,), heartbeat=HEARTBEAT, compress=False, max_msg_size=self._stanza_bytes
        )
        await socket.prepare(request)
        wire = WebSocketWire(socket)
        connection = self._make(wire, request.remote or "", {} if request.secure else None)
        wire.connection = connection
        self.open += 1
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    connection.received(frame.data.encode())
                    await wire.readable()
                elif frame.type is WSMsgType.BINARY:
                    await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
        finally:
            self.open -= 1
            connection.lost()
        return socket
