"""One client connection: events of the protocol core become calls, and what services say becomes bytes.

Input is handled strictly in order. Whatever has to wait (a look-up, a handler that reads the store) holds up what the
same client sent behind it; the socket is not read meanwhile, so a client cannot queue work here.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from typing import Protocol

import structlog
from homeserver.protocol.c2s import (
    AckReceived,
    AckRequested,
    ClientState,
    ServerStream,
    StanzaReceived,
    StreamClosed,
    StreamFailed,
)

from client_api.xmpp.binding import Binding
from client_api.xmpp.negotiation import Peer
from client_api.xmpp.session import XmppSession
from client_api.xmpp.stanzas import Stanzas
from homeserver.protocol.xml import serialise

log = structlog.get_logger(__name__)


class Wire(Protocol):
    """A byte pipe to a client: TCP, TLS or WebSocket frames."""

    def write(self, data: bytes) -> None: ...
    def unsent(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    async def start_tls(self) -> dict[str, bytes] | None: ...


class Connection:
    """Drives one `ServerStream`. ``stanzas`` takes what a bound client sends, ``binding`` all that comes before."""

    __slots__ = (
        "_binding",
        "_clock",
        "_congested",
        "_flushing",
        "_held",
        "_loop",
        "_rest",
        "_stanzas",
        "_task",
        "_timer",
        "_unsent_limit",
        "peer",
        "session",
        "stream",
        "wire",
    )

    def __init__(
        self, wire: Wire, peer: Peer, stream: ServerStream, binding: Binding, stanzas: Stanzas, unsent_limit: int
    ) -> None:
        self.wire = wire
        self.peer = peer
        self.stream = stream
        self.session: XmppSession | None = None
        self._binding = binding
        self._stanzas = stanzas
        self._unsent_limit = unsent_limit
        self._loop = asyncio.get_running_loop()
        self._rest: Iterator[object] | None = None
        self._held: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._congested = False
        self._watch()

    # --- from the wire ------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._rest is not None:
            self._held.append(data)
            return
        self._handle(iter(self.stream.receive(data, self._loop.time())))

    def lost(self) -> None:
        """The wire is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._rest = None
        self._held.clear()
        session, self.session = self.session, None
        if session is not None and session.link is self:
            self._binding.lost(session, farewell=self.stream.is_closed)

    def congested(self, is_congested: bool) -> None:
        """The wire's buffer is full, or empty again."""
        self._congested = is_congested
        if not is_congested and self.session is not None:
            self.session.drained()

    # --- Link ---------------------------------------------------------------------------------------------------------

    def transmit(self, data: bytes) -> None:
        """Write one stanza; all of one turn of the loop leave together."""
        self.stream.send(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def is_drained(self) -> bool:
        return not self._congested

    def end(self, condition: str, text: str = "") -> None:
        """Close with a stream error; the session does not survive it."""
        self.stream.close(condition, text)
        self._flush()
        session, self.session = self.session, None
        if session is not None and session.link is self:
            self._binding.lost(session, farewell=True)

    def flush(self) -> None:
        """Write what the stream has to say now."""
        self._flush()

    # --- the pump -----------------------------------------------------------------------------------------------------

    def _handle(self, events: Iterator[object]) -> None:
        for event in events:
            waiting = self._take(event)
            if waiting is not None:
                self._rest = events
                self.wire.pause_reading()
                self._flush()
                self._task = self._loop.create_task(self._wait(waiting))
                return
        self._flush()

    async def _wait(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception:
            log.exception("handling input failed", address=self.peer.address)
            self.end("internal-server-error")
            return
        self._task = None
        events, self._rest = self._rest, None
        if events is not None:
            self._handle(events)
        while self._rest is None and self._held:
            self.received(self._held.pop(0))
        if self._rest is None:
            self.wire.resume_reading()

    def _take(self, event: object) -> Awaitable[None] | None:
        session = self.session
        if session is None:
            return self._take_unbound(event)
        kind = type(event)
        if kind is StanzaReceived:
            return self._stanzas.received(self, session, event)  # type: ignore[arg-type]
        if kind is AckReceived:
            self._stanzas.acknowledged(session, event)  # type: ignore[arg-type]
        elif kind is AckRequested:
            self._stanzas.acknowledge(self, session)
        elif kind is ClientState:
            self._stanzas.state(self, session, event)  # type: ignore[arg-type]
        else:
            return self._take_unbound(event)
        return None

    def _take_unbound(self, event: object) -> Awaitable[None] | None:
        if isinstance(event, StreamFailed | StreamClosed):
            self._flush()
            self.wire.close()
            return None
        return self._binding.take(self, event)

    def _flush(self) -> None:
        self._flushing = False
        data = self.stream.data_to_send()
        if data:
            self.wire.write(data)
            if self.wire.unsent() > self._unsent_limit:
                log.info("client does not read", address=self.peer.address)
                self.wire.abort()
                return
        if self.stream.is_closed:
            self.wire.close()
        elif self.session is not None and not self._congested and not self.wire.unsent():
            self.session.drained()

    def _watch(self) -> None:
        """Keep the protocol's deadline (RFC 6120 s4.6.4: a stream that makes no progress is closed)."""
        deadline = self.stream.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        events: Sequence[object] = self.stream.check_deadline(self._loop.time())
        self._handle(iter(events))
        self._watch()


def encode(element: object) -> bytes:
    """An element as bytes for a client stream."""
    return serialise(element).encode()  # type: ignore[arg-type]
