"""WebSockets that take masked frames only.

A server must close when a client's frame is not masked (RFC 6455 s5.1); the HTTP library takes both kinds. Masking keeps
scripts in web pages from choosing the bytes on the wire, and with them what a careless proxy makes of those bytes.
"""

from typing import Any, Final

from aiohttp import WebSocketError, WSCloseCode, web

_MASKED: Final = 0x80
_KEY_BYTES: Final = 4
_MORE: Final = {126: 2, 127: 8}
"""Length codes that stand for a length in so many bytes behind them (RFC 6455 s5.2)."""


class FrameHeads:
    """Finds the heads of frames in a stream of bytes. ``is_broken`` once a frame was not masked."""

    __slots__ = ("_head", "_skip", "is_broken")

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0
        self.is_broken = False

    def are_masked(self, data: bytes) -> bool:
        """Whether all frames that begin in the next bytes of the stream are masked."""
        place = 0
        while place < len(data) and not self.is_broken:
            if self._skip:
                step = min(self._skip, len(data) - place)
                self._skip -= step
                place += step
                continue
            known = len(self._head)
            head = self._head + data[place : place + 10 - known]
            if len(head) > 1 and not head[1] & _MASKED:
                self.is_broken = True
                break
            code = head[1] & ~_MASKED if len(head) > 1 else 0
            size = 2 + _MORE.get(code, 0)
            if len(head) < size:
                self._head = head
                break
            self._head = b""
            self._skip = (int.from_bytes(head[2:size]) if size > 2 else code) + _KEY_BYTES
            place += size - known
        return not self.is_broken


class MaskedSocket(web.WebSocketResponse):
    """A WebSocket that ends with 1002 at the first frame without a mask."""

    def _post_start(self, request: Any, protocol: str | None, writer: Any) -> None:
        handler = request.protocol
        heads = FrameHeads()
        if not heads.are_masked(bytes(handler._message_tail)):  # what came in one packet with the handshake
            handler._message_tail = b""
        super()._post_start(request, protocol, writer)
        handler._payload_parser = _MaskedInput(handler._payload_parser, self._reader, heads)


class _MaskedInput:
    """Stands before the library's reader of frames."""

    def __init__(self, inner: Any, queue: Any, heads: FrameHeads) -> None:
        self._inner = inner
        self._queue = queue
        self._heads = heads
        if heads.is_broken:
            self._refuse()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self._heads.are_masked(data):
            found: tuple[bool, bytes] = self._inner.feed_data(data)
            return found
        self._refuse()
        return True, b""

    def _refuse(self) -> None:
        self._queue.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "frames of clients are masked"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
