"""``/v1/ws``: the way in of live sessions, and the frames they send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import WSMsgType, web

from client_api.http.endpoint import Gate, decode_body, decode_query
from client_api.http.errors import problem_of
from client_api.http.frames import (
    AckFrame,
    AuthFrame,
    ClientFrame,
    ErrorFrame,
    PingFrame,
    PongFrame,
    PresenceFrame,
    SendFrame,
    SentFrame,
)
from client_api.http.live import LiveServices, LiveSession
from client_api.http.messages import Id, Messages
from client_api.masking import MaskedSocket
from homeserver.domain.errors import BadRequest, DomainError, Forbidden, NotAuthorized, RateLimited, ServiceUnavailable
from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import InvalidEvent, check, timestamp
from homeserver.protocol.stanza import PRESENCE, Stanza
from homeserver.protocol.xml import Element, element
from homeserver.services.client_messages import Sent
from homeserver.services.limits import Bucket, Limit, Limits
from homeserver.services.mailboxes import Mailboxes
from homeserver.services.tokens import Caller, Tokens

log = structlog.get_logger(__name__)

AUTH_TIME: Final = 10.0
HEARTBEAT: Final = 45.0
MAX_FLYING: Final = 256
BAD_FRAME: Final = 4400
UNAUTHORIZED: Final = 4401
NO_AUTH: Final = 4408


class SocketQuery(msgspec.Struct):
    """What a client with an Authorization header may say in the address."""

    cursor: Id | None = None
    presence: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketBounds:
    """``origins`` are the web pages that may open a socket besides this server's own; sizes are bytes."""

    origins: frozenset[str]
    unsent_bytes: int
    frame_bytes: int


class Live:
    """Opens live sessions and reads their frames."""

    def __init__(
        self,
        gate: Gate,
        tokens: Tokens,
        messages: Messages,
        mailboxes: Mailboxes,
        services: LiveServices,
        limits: Limits,
        bounds: SocketBounds,
    ) -> None:
        self._gate = gate
        self._tokens = tokens
        self._messages = messages
        self._mailboxes = mailboxes
        self._services = services
        self._limits = limits
        self._bounds = bounds
        self._open: dict[str, LiveSession] = {}
        self._saving: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        tokens.when_dropped(self._dropped)

    def routes(self) -> list[web.RouteDef]:
        """The route of the socket."""
        return [web.get("/v1/ws", self.connect)]

    def session_of(self, device: str) -> LiveSession | None:
        """The open session of a device."""
        return self._open.get(device)

    def close_all(self) -> None:
        """The server stops."""
        for session in list(self._open.values()):
            session.disconnect("system-shutdown")

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """One socket, from handshake to close."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._bounds.origins and urlsplit(origin).netloc != request.host:
            raise Forbidden("web pages of this origin may not connect")
        self._gate.admit(request.remote or "", None)
        socket = MaskedSocket(max_msg_size=self._bounds.frame_bytes, compress=False, heartbeat=HEARTBEAT)
        if not socket.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        query: SocketQuery | AuthFrame = decode_query(request, SocketQuery)
        caller = await self._gate.caller(request) if "Authorization" in request.headers else None
        await socket.prepare(request)
        try:
            if caller is None:
                query = await self._first_frame(socket)
                caller = await self._tokens.verify(query.access_token)
        except TimeoutError:
            await socket.close(code=NO_AUTH)
            return socket
        except NotAuthorized:
            await socket.close(code=UNAUTHORIZED)
            return socket
        except DomainError as error:
            await socket.close(code=BAD_FRAME, message=error.text.encode()[:120])
            return socket
        await self._serve(socket, caller, query, self._paces(request.remote or "", caller))
        return socket

    def _paces(self, address: str, caller: Caller) -> Sequence[Bucket]:
        """What slows the account's sockets down, by frames and by characters; empty where the address has no limits."""
        bare = caller.account.jid.bare
        kinds = () if self._limits.exempt(address) else (Limit.STANZA_ACCOUNT, Limit.BYTES_ACCOUNT)
        return [self._limits.bucket(kind, bare) for kind in kinds]

    async def _first_frame(self, socket: web.WebSocketResponse) -> AuthFrame:
        async with asyncio.timeout(AUTH_TIME):
            first = await socket.receive()
        if first.type is not WSMsgType.TEXT:
            raise BadRequest("the first frame is auth")
        found: AuthFrame = decode_body(first.data.encode(), AuthFrame)
        return found

    async def _serve(
        self, socket: web.WebSocketResponse, caller: Caller, wish: SocketQuery | AuthFrame, paces: Sequence[Bucket]
    ) -> None:
        cursor = wish.cursor
        if cursor is None:
            cursor = await self._tokens.position(caller.device)
        if cursor is None:
            cursor = await self._mailboxes.settled(caller.account)
        session = LiveSession(socket, caller, cursor, self._bounds.unsent_bytes, self._mailboxes, self._services)
        try:
            self._services.sessions.bind(session)
        except DomainError as error:
            await socket.close(code=1008, message=error.text.encode()[:120])
            return
        self._open[session.device] = session
        feed, reader = session.start(), asyncio.create_task(self._read(socket, session, wish.presence, paces))
        try:
            await asyncio.wait({feed, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.end()
            if self._open.get(session.device) is session:
                del self._open[session.device]
            for task in (feed, reader):
                task.cancel()
            # Nobody reads any more when the socket is closed, so that it waits for the client's half of the close.
            await asyncio.gather(feed, reader, return_exceptions=True)
            await socket.close(code=session.close_code, message=session.close_text.encode()[:120])

    async def _read(
        self, socket: web.WebSocketResponse, session: LiveSession, shows: bool, paces: Sequence[Bucket]
    ) -> None:
        flying = asyncio.Semaphore(MAX_FLYING)
        try:
            if shows:
                await self._show(session, PresenceFrame(True))
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    raise BadRequest("text frames only")
                costs = (1.0, float(len(frame.data)))
                wait = max((pace.charge(cost) for pace, cost in zip(paces, costs, strict=False)), default=0.0)
                if wait:
                    await asyncio.sleep(wait)
                await self._take(session, decode_body(frame.data.encode(), ClientFrame), flying)
                await session.room()
        except BadRequest as error:
            session.close_code, session.close_text = BAD_FRAME, error.text
        except Exception:
            log.exception("live socket failed", jid=str(session.jid))
            session.close_code = 1011

    async def _take(self, session: LiveSession, frame: ClientFrame, flying: asyncio.Semaphore) -> None:
        if isinstance(frame, SendFrame):
            await self._send(session, frame, flying)
        elif isinstance(frame, AckFrame):
            if not session.ack(frame.position):
                raise BadRequest("a position was acknowledged that was not sent")
            self._save(session)
        elif isinstance(frame, PingFrame):
            session.reply(PongFrame(frame.id))
        else:
            await self._show(session, frame)

    async def _show(self, session: LiveSession, wish: PresenceFrame) -> None:
        try:
            await self.show(session, wish)
        except RateLimited as error:
            session.reply(ErrorFrame(problem_of(error)))

    async def _send(self, session: LiveSession, frame: SendFrame, flying: asyncio.Semaphore) -> None:
        """Begun one after the other, so that messages keep their order; the commit is not waited for."""
        try:
            _, sent = await self._messages.begin(session.account, session.jid, frame.message())
        except DomainError as error:
            session.reply(ErrorFrame(problem_of(error), frame.client_id))
            return
        await flying.acquire()

        def done(found: asyncio.Future[Sent]) -> None:
            flying.release()
            if found.cancelled():
                return
            error = found.exception()
            if error is None:
                made = found.result()
                session.reply(SentFrame(frame.client_id, made.id or None, timestamp(made.at)))
            else:
                refusal = error if isinstance(error, DomainError) else ServiceUnavailable("not stored")
                session.reply(ErrorFrame(problem_of(refusal), frame.client_id))

        sent.add_done_callback(done)

    async def show(self, session: LiveSession, wish: PresenceFrame) -> None:
        """Set the presence of a live session (RFC 6121 s4.4, s4.5)."""
        made = Element(PRESENCE)
        for name, value in (("show", wish.show if wish.available else None), ("status", wish.status)):
            if value:
                made.append(element(ns.CLIENT, name, None, value))
        try:
            check(made)
        except InvalidEvent as error:
            raise BadRequest(str(error)) from error
        if wish.available:
            waiting = self._services.presence.available(session, Stanza(made, session.jid, None))
            if waiting is not None:
                await waiting
        elif session.presence is not None:
            made.set("type", "unavailable")
            self._services.presence.unavailable(session, Stanza(made, session.jid, None))
            session.priority = 0  # unseen, and still given its messages

    def _save(self, session: LiveSession) -> None:
        """Write the position; while one is being written, only the last of those that follow is."""
        if session.device not in self._saving:
            self._saving.add(session.device)
            task = asyncio.create_task(self._saved(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _saved(self, session: LiveSession) -> None:
        written = -1
        try:
            while written < session.acknowledged:
                written = session.acknowledged
                await self._tokens.reached(session.device, written)
        except Exception:
            log.exception("position not stored", device=session.device)
        finally:
            self._saving.discard(session.device)

    def _dropped(self, devices: tuple[str, ...]) -> None:
        for device in devices:
            session = self._open.get(device)
            if session is not None:
                session.disconnect("not-authorized", "the device was logged out")
