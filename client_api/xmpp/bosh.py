"""XMPP over BOSH (XEP-0124, XEP-0206), on the HTTPS listener: long polling for clients that have no WebSocket.

A session is the wire of one XMPP connection. What was put into an answer stays *unsent* until the client is known to
have received it, so a message in an answer that got lost is not taken for delivered.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from client_api.http.app import OPEN_TO_ALL
from client_api.xmpp.connection import Connection, Wire
from homeserver.protocol import namespaces as ns
from homeserver.protocol.bosh import (
    LEGACY_STATUS,
    MAX_PAUSE,
    BoshFault,
    BoshFraming,
    Requests,
    Terms,
    Wrapper,
    terminated,
    wrap,
)
from homeserver.protocol.xml import serialise
from homeserver.protocol.xml_input import XmlLimits

log = structlog.get_logger(__name__)

PATH: Final = "/http-bind"
ANSWER_BYTES: Final = 1 << 20
"""An answer takes no further stanza when it has so much."""
BODY_SECONDS: Final = 30.0
WRAPPER_BYTES: Final = 4096
_CLOSE: Final = f"<close xmlns='{ns.FRAMING}'/>".encode()
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "86400",
}

MakeBosh = Callable[[Wire, str, dict[str, bytes] | None, BoshFraming], Connection]


class BoshSession:
    """One session: implements `Wire` for its connection, and answers requests in the order of their ids."""

    def __init__(self, first: Wrapper, terms: Terms, ended: Callable[["BoshSession"], None]) -> None:
        self.sid = secrets.token_urlsafe(24)
        self.terms = terms
        self.framing = BoshFraming(XmlLimits())
        self._first: Wrapper | None = first
        self._requests = Requests(first, terms)
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._held: dict[int, asyncio.Future[bytes]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._queue: list[bytes] = []
        self._queued = 0
        self._inactivity: asyncio.TimerHandle | None = None
        self._pumping = False
        self._reading = True
        self._closing = False
        self._sid_is_known = True
        self._condition = ""

    # --- Wire -------------------------------------------------------------------------------------------------------

    def write(self, data: list[bytes]) -> None:
        found = [one for one in data if one]
        self._queue += found
        self._queued += sum(map(len, found))
        self._wake()

    def unsent(self) -> int:
        return self._queued + self._requests.unconfirmed()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._wake()

    def close(self) -> None:
        """End the session with the next answer."""
        if not self._closing:
            self._closing = True
            self._condition = "remote-stream-error" if self.framing.failed else ""
            self._wake()

    def abort(self) -> None:
        self._queue.clear()
        self._queued = 0
        self.fail("other-request")

    async def start_tls(self) -> dict[str, bytes] | None:
        """TLS is a matter of HTTP here (XEP-0206 s4)."""
        return None

    # --- from the client ----------------------------------------------------------------------------------------------

    def begin(self, connection: Connection) -> None:
        """Open the stream that the first request asks for."""
        self._connection = connection
        if self._first is not None:
            connection.received(self._first.opening())

    async def first_answer(self) -> bytes:
        """The answer to the request that made the session."""
        assert self._first is not None
        return await self._hold(self._first.rid)

    async def take(self, wrapper: Wrapper) -> bytes:
        """One request; its answer. Raises `BoshFault` after which the session is gone."""
        try:
            kept = self._requests.answer_again(wrapper.rid)
            if kept is not None:
                return kept
            if self._requests.is_new(wrapper.rid):
                self._bounded(wrapper)
                for one in self._requests.take(wrapper, self._loop.time()):
                    self._feed(one)
        except BoshFault:
            self.fail("other-request")
            raise
        if self._connection is not None and not self.unsent():
            self._connection.congested(False)
        answer = await self._hold(wrapper.rid)
        if wrapper.pause is not None and not self._closing and not self._held:
            self._rest(wrapper.pause)
        return answer

    def fail(self, condition: str) -> None:
        """End it at once; what was not received waits in the mailbox."""
        for rid in list(self._held):
            self._answer(rid, terminated(condition), is_idle=True)
        self._lost()

    def _bounded(self, wrapper: Wrapper) -> None:
        """XEP-0124 s10: so many requests at a time, and one more to pause or to end."""
        most = self.terms.requests + (1 if wrapper.terminates or wrapper.pause is not None else 0)
        if len(self._held) >= max(most, 2):
            raise BoshFault("policy-violation")

    def _feed(self, wrapper: Wrapper) -> None:
        connection = self._connection
        if connection is None:
            return
        if wrapper.restarts:
            connection.received(wrapper.opening())  # payloads beside it are ignored (XEP-0206 s5)
        else:
            for payload in wrapper.payloads:
                connection.received(serialise(payload, default="").encode())
        if wrapper.terminates:
            connection.received(_CLOSE)
        if wrapper.pause is not None and wrapper.pause <= MAX_PAUSE:
            for rid in sorted(rid for rid in self._held if rid < wrapper.rid):
                self._answer(rid, wrap(()), is_idle=True)

    # --- to the client ------------------------------------------------------------------------------------------------

    async def _hold(self, rid: int) -> bytes:
        older = self._held.get(rid)
        if older is not None and not older.done():
            older.set_result(wrap((), {"type": "error"}))  # XEP-0124 s13.3: the newer request gets the answer
        held: asyncio.Future[bytes] = self._loop.create_future()
        self._held[rid] = held
        if self._inactivity is not None:
            self._inactivity.cancel()
            self._inactivity = None
        timer = self._timers.pop(rid, None)
        if timer is not None:
            timer.cancel()
        self._timers[rid] = self._loop.call_later(self.terms.wait, self._expire, rid)
        self._wake()
        try:
            return await held
        finally:
            if self._held.get(rid) is held:  # the client went away before it was answered
                self._drop(rid)
                self._rest(self.terms.inactivity)

    def _wake(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        due = sorted(rid for rid in self._held if rid <= self._requests.highest)
        if self._closing:
            self._farewell(due)
            return
        while due and (self._queue or (self._reading and (len(due) > self.terms.hold or self.terms.is_polling))):
            self._give(due.pop(0))

    def _give(self, rid: int) -> None:
        """Answer a request with what there is."""
        taken, size = 0, 0
        while taken < len(self._queue) and size < ANSWER_BYTES:
            size += len(self._queue[taken])
            taken += 1
        payloads, self._queue = self._queue[:taken], self._queue[taken:]
        self._queued -= size
        told = {"ack": str(self._requests.highest)} if self.terms.confirms and rid != self._requests.highest else {}
        if self._first is not None:
            domain = self._first.attributes.get("to", "")
            told = self.terms.attributes(self.sid, domain, self.framing.stream_id, rid)
            self._first = None
        self._answer(rid, wrap(payloads, told), is_idle=not payloads)

    def _farewell(self, due: list[int]) -> None:
        """The oldest request is told that it is over, the others get nothing more (XEP-0124 s12)."""
        for place, rid in enumerate(due):
            self._answer(rid, wrap(()) if place else terminated(self._condition, self._queue), is_idle=True)
        if due:
            self._queue, self._queued = [], 0
            self._lost()
        else:  # the next request is told
            self._cut()
            self._rest(self.terms.inactivity)

    def _answer(self, rid: int, answer: bytes, is_idle: bool) -> None:
        held = self._held[rid]
        self._drop(rid)
        self._requests.answered(rid, answer, is_idle, self._loop.time())
        if not held.done():
            held.set_result(answer)
        if not self._held:
            self._rest(self.terms.inactivity)

    def _drop(self, rid: int) -> None:
        del self._held[rid]
        self._timers.pop(rid).cancel()

    def _expire(self, rid: int) -> None:
        """A request was held as long as the client allows; those before it are answered first."""
        for one in sorted(held for held in self._held if held <= rid):
            self._give(one)

    def _rest(self, seconds: float) -> None:
        """No request is here; the client must come back in time (XEP-0124 s9)."""
        if self._inactivity is not None:
            self._inactivity.cancel()
        if not self._held and self._sid_is_known:
            self._inactivity = self._loop.call_later(seconds, self._lost)

    def _cut(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()

    def _lost(self) -> None:
        """The session is over, and its id unknown."""
        self._sid_is_known = False
        for timer in (*self._timers.values(), *([self._inactivity] if self._inactivity is not None else [])):
            timer.cancel()
        self._timers.clear()
        self._inactivity = None
        for held in self._held.values():
            if not held.done():
                held.set_result(terminated("item-not-found"))
        self._held.clear()
        self._ended(self)
        self._cut()


class BoshFace:
    """The handler of ``/http-bind``."""

    def __init__(self, make: MakeBosh, stanza_bytes: int) -> None:
        self._make = make
        self._limits = XmlLimits(max_bytes=stanza_bytes + WRAPPER_BYTES)
        self._sessions: dict[str, BoshSession] = {}

    @property
    def open(self) -> int:
        """Sessions there are."""
        return len(self._sessions)

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.post(PATH, self.handle), web.options(PATH, self.preflight)]

    async def preflight(self, _request: web.Request) -> web.Response:
        """Web pages of any origin may use it: who a request is for says the session in it, never a cookie."""
        response = web.Response(status=204, headers=_PREFLIGHT)
        response[OPEN_TO_ALL] = True
        return response

    async def handle(self, request: web.Request) -> web.Response:
        """One request."""
        session: BoshSession | None = None
        try:
            wrapper = Wrapper.parse(await self._body(request), self._limits)
            if wrapper.sid:
                session = self._sessions.get(wrapper.sid)
                if session is None:
                    raise BoshFault("item-not-found")
                return _answered(await session.take(wrapper))
            terms = Terms.agree(wrapper)
            session = BoshSession(wrapper, terms, self._forget)
            self._sessions[session.sid] = session
            secure: dict[str, bytes] | None = {} if request.secure else None
            session.begin(self._make(session, request.remote or "", secure, session.framing))
            return _answered(await session.first_answer())
        except BoshFault as fault:
            log.info("BOSH request refused", condition=fault.condition)
            if session is not None and session.terms.is_legacy and fault.condition in LEGACY_STATUS:
                return _answered(b"", LEGACY_STATUS[fault.condition])
            return _answered(terminated(fault.condition))

    async def _body(self, request: web.Request) -> bytes:
        """The body, bounded in size and time. Raises `BoshFault`."""
        found = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.content.iter_any():
                    found += part
                    if len(found) > self._limits.max_bytes:
                        raise BoshFault("policy-violation")
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        return bytes(found)

    def _forget(self, session: BoshSession) -> None:
        self._sessions.pop(session.sid, None)


def _answered(body: bytes, status: int = 200) -> web.Response:
    response = web.Response(body=body, status=status, content_type="text/xml", charset="utf-8")
    response[OPEN_TO_ALL] = True
    return response
