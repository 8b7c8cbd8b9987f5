"""One client connection: events of the protocol core become calls, and what services say becomes bytes.

Input is handled strictly in order. Whatever has to wait (a look-up, a handler that reads the store) holds up what the
same client sent behind it; the socket is not read meanwhile, so a client cannot queue work here. Neither is the socket
of a client read that sends faster than its account may: it loses nothing and is told nothing, it waits.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import structlog

from client_api.xmpp.binding import Binding
from client_api.xmpp.negotiation import Pace, Peer
from client_api.xmpp.session import XmppSession
from client_api.xmpp.stanzas import Stanzas
from homeserver.domain.accounts import Account
from homeserver.protocol.c2s import SETTLE_SECONDS, ServerStream
from homeserver.protocol.jid import JID
from homeserver.protocol.stream_events import (
    AckReceived,
    AckRequested,
    ClientState,
    StanzaReceived,
    StreamClosed,
    StreamFailed,
)
from homeserver.xmpp.registration import Attempt

log = structlog.get_logger(__name__)

MAX_HELD: Final = 4
"""Reads of a connection that waits for its turn; then its socket is not read."""
ARRIVING: Final = 4
"""Reads of a new session that wait for a turn like those of a login: contacts, presence and what it does next."""
PREPAID: Final = 8
"""Stanzas a connection takes from its account's bucket at a time: one look at the clock, and one timer, for several."""


class Wire(Protocol):
    """A byte pipe to a client: TCP, TLS or WebSocket frames. Nothing but `start_tls` waits."""

    def write(self, data: list[bytes]) -> None:
        """Send elements, in order."""

    def unsent(self) -> int:
        """Bytes that the socket has not taken."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        """Close after what is unsent."""

    def abort(self) -> None:
        """Close at once."""

    async def start_tls(self) -> dict[str, bytes] | None:
        """Begin TLS; gives the channel bindings, or None when the handshake failed."""


class Connection:
    """Drives one `ServerStream`. ``stanzas`` takes what a bound client sends, ``binding`` all that comes before.

    ``on_closed`` is called once, when the wire is gone, ``on_known`` once, when it has logged in.
    """

    __slots__ = (
        "_arriving",
        "_asked",
        "_binding",
        "_congested",
        "_credit",
        "_flushing",
        "_held",
        "_is_lost",
        "_loop",
        "_on_closed",
        "_on_known",
        "_owed",
        "_pace",
        "_rest",
        "_stanzas",
        "_task",
        "_timer",
        "_unsent_limit",
        "account",
        "attempt",
        "lang",
        "peer",
        "registration",
        "session",
        "stream",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        peer: Peer,
        stream: ServerStream,
        binding: Binding,
        stanzas: Stanzas,
        unsent_limit: int,
        on_closed: "Callable[[Connection], None]",
        on_known: "Callable[[Connection], None]",
    ) -> None:
        self.wire = wire
        self.peer = peer
        self.stream = stream
        self.session: XmppSession | None = None
        self.account: Account | None = None
        self.attempt: JID | None = None
        self.registration: Attempt | None = None
        self.lang = ""
        self._binding = binding
        self._stanzas = stanzas
        self._unsent_limit = unsent_limit
        self._on_closed = on_closed
        self._on_known = on_known
        self._loop = asyncio.get_running_loop()
        self._rest: Iterator[object] | None = None
        self._held: deque[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._congested = False
        self._is_lost = False
        self._asked = False
        self._pace: Pace | None = None
        self._owed = 0.0
        self._credit = 0
        self._arriving = ARRIVING
        self._watch()

    # --- from the wire ------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes from the client; for WebSocket one whole message."""
        if self._rest is not None:
            if self._held is None:
                self._held = deque()
            self._held.append(data)
            if len(self._held) == MAX_HELD:
                self.wire.pause_reading()
            return
        if self._arriving and not self._binding.admission.passes():
            self._queue(data)
            return
        self._read(data)

    def admitted(self) -> None:
        """It is this connection's turn to go on with its login, or with what it does first."""
        self._rest = None
        if self._is_lost or not self._held:
            return
        self._read(self._held.popleft())
        self._catch_up()
        if self._rest is None:
            self.wire.resume_reading()

    @property
    def holds_input(self) -> bool:
        """Whether the client sent more than was taken."""
        return bool(self._held)

    def _queue(self, data: bytes) -> None:
        """Wait for a turn; what comes meanwhile is held behind ``data``."""
        if self._held is None:
            self._held = deque()
        self._held.appendleft(data)
        self._rest = iter(())
        self._binding.admission.enter(self)

    def _catch_up(self) -> None:
        """Take what was held, until something has to be waited for."""
        while self._rest is None and self._held:
            self.received(self._held.popleft())

    def _read(self, data: bytes) -> None:
        if self.session is not None and self._arriving:
            self._arriving -= 1
        pace = self._pace
        if pace is not None:
            self._owed = max(self._owed, pace.bytes.charge(len(data)))
        self._handle(iter(self.stream.receive(data, self._loop.time())))
        if self._owed and self._rest is None:
            self.hold(self._rested())

    def lost(self) -> None:
        """The wire is gone."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._rest = self._held = None
        self._binding.failed(self)
        self._leave(farewell=self.stream.is_closed)
        self._on_closed(self)

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
            self._loop.call_soon(self.flush)

    def unsent(self) -> int:
        """Bytes that the wire has not taken."""
        return self.wire.unsent()

    def end(self, condition: str, text: str = "") -> None:
        """Close with a stream error; the session does not survive it."""
        self.stream.close(condition, text)
        self._leave(farewell=True)
        self.flush()

    def cut(self) -> None:
        """Another connection took the session: close without a word to it."""
        self.session = None
        self.stream.close("conflict", "The session was resumed elsewhere")
        self.flush()

    def known(self, account: Account, pace: Pace | None) -> None:
        """The client proved that the account is its own, which may send at that pace."""
        if self.account is None:
            self._on_known(self)
            if self._timer is not None:
                # The deadline of the login is far off, and most clients have nothing more to say for a while.
                self._timer.cancel()
                self._timer = self._loop.call_later(SETTLE_SECONDS, self._expired)
        self.account = account
        self._pace = pace

    # --- the pump -----------------------------------------------------------------------------------------------------

    def hold(self, waiting: Awaitable[None] | None) -> None:
        """Take no input until something is done."""
        if waiting is not None:
            self._suspend(iter(()), waiting)

    def flush(self) -> None:
        """Write what the stream has to say."""
        self._flushing = False
        if self._is_lost:
            return
        queue = self.stream.queue
        if queue is not None and not self._asked and len(queue) and self.session is not None:
            self._asked = True
            self.stream.request_ack()
        data = self.stream.messages_to_send()
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

    def _handle(self, events: Iterator[object]) -> None:
        for event in events:
            waiting = self._take(event)
            if waiting is not None:
                self._suspend(events, waiting)
                return
        self.flush()

    def _suspend(self, events: Iterator[object], waiting: Awaitable[None]) -> None:
        self._rest = events
        self.wire.pause_reading()
        self.flush()
        self._task = self._loop.create_task(self._wait(waiting))

    async def _wait(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception:
            log.exception("handling input failed", address=self.peer.address)
            self._task = None
            self.end("internal-server-error")
            return
        self._task = None
        events, self._rest = self._rest, None
        if events is not None:
            self._handle(events)
        self._catch_up()
        if self._owed and self._rest is None:
            self.hold(self._rested())
        if self._rest is None and not self._is_lost:
            self.wire.resume_reading()

    def _take(self, event: object) -> Awaitable[None] | None:
        kind = type(event)
        session = self.session
        if kind is StanzaReceived and session is not None:
            waiting = self._stanzas.received(self, session, event)  # type: ignore[arg-type]
            if waiting is not None and self._arriving:
                waiting = self._binding.admission.paced(waiting)
            self._credit -= 1
            if self._credit >= 0 or self._pace is None:
                return waiting
            self._credit = PREPAID - 1
            owed = self._pace.stanzas.charge(PREPAID)
            if not owed:
                return waiting
            self._owed = max(self._owed, owed)
            return self._rested(waiting)
        if session is not None and kind is AckReceived:
            self._asked = False
            self._stanzas.acknowledged(session, event)  # type: ignore[arg-type]
            return None
        if session is not None and kind is AckRequested:
            self._stanzas.acknowledge(self, session)
            return None
        if session is not None and kind is ClientState:
            session.looked_at(event.active)  # type: ignore[attr-defined]
            return None
        if kind is StreamFailed or kind is StreamClosed:
            # A client that does not answer has lost its connection and may want to go on with another.
            self._leave(farewell=kind is StreamClosed or event.condition != "connection-timeout")  # type: ignore[attr-defined]
            return None
        return self._binding.take(self, event)

    async def _rested(self, waiting: Awaitable[None] | None = None) -> None:
        """Wait as long as the client was too fast, after what it has to wait for anyway."""
        owed, self._owed = self._owed, 0.0
        if waiting is not None:
            await waiting
        await asyncio.sleep(owed)

    def _leave(self, farewell: bool) -> None:
        session, self.session = self.session, None
        if session is not None and session.link is self:
            self._binding.lost(session, farewell)

    def _watch(self) -> None:
        """Keep the protocol's deadlines; idle connections have one too, after which they use less memory."""
        deadline = self.stream.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._rest is None:
            self._handle(iter(self.stream.check_deadline(self._loop.time())))
        if not self._is_lost:
            self._watch()
