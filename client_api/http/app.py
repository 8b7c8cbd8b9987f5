"""The HTTP application: routes from declarations, and what holds for every request.

Endpoints answer JSON. Other faces add routes of their own (federation, XMPP over WebSocket). Every request passes one
middleware: host check, request id, error mapping, CORS, headers, one log line without query string.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from client_api.http import openapi
from client_api.http.endpoint import Gate
from client_api.http.errors import http_refusal, internal, refusal
from homeserver.counts import SECONDS, Spread, Tally
from homeserver.domain.errors import DomainError, StorageFull
from homeserver.storage.faults import is_full

if TYPE_CHECKING:
    from config.settings import HttpSettings

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSION: Final = "0.1.0"
KEEPALIVE: Final = 75.0
FIRST_REQUEST: Final = 30.0
"""Seconds in which a new connection must have sent the head of a request."""
MAX_LINE: Final = 8190
_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-site",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


class Traffic:
    """Answers by class of status, and the time they took."""

    def __init__(self) -> None:
        self.statuses = Tally("2xx", "3xx", "4xx", "5xx")
        self.seconds = Spread(SECONDS)

    def count(self, status: int, seconds: float) -> None:
        """Count one answer; a switch to WebSocket counts as a success."""
        self.statuses.add(f"{max(2, status // 100)}xx")
        self.seconds.observe(seconds)


_SILENT: Final[web.AppKey[dict[Any, asyncio.TimerHandle]]] = web.AppKey("silent", dict)
"""Connections that have not sent the head of a request yet, with the timer that ends them."""
_TRAFFIC: Final[web.AppKey[Traffic]] = web.AppKey("traffic")
OPEN_TO_ALL: Final = web.ResponseKey("open_to_all", bool)
"""Set on a response that any web page may read (XEP-0156 s3)."""
OPEN_REQUEST: Final = web.RequestKey("open_to_all", bool)
"""Set on a request by a handler whose every answer, refusals too, any web page may read. Its address is a secret of
those who have it, so it is not logged."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Host header values that are served, in lower case and without ports."""

    names: frozenset[str]

    def serve(self, header: str | None) -> bool:
        """Whether a Host header names us; ports do not matter."""
        if header is None:
            return False
        name = header.strip().lower()
        name = name.partition("]")[0][1:] if name.startswith("[") else name.partition(":")[0]
        return name.removesuffix(".") in self.names


def build_http(
    endpoints: Sequence[object],
    raw_routes: Sequence[web.RouteDef],
    gate: Gate,
    settings: HttpSettings,
    hosts: Hosts,
    public_url: str,
) -> web.Application:
    """The application with all endpoints, the OpenAPI document and page, and the raw routes."""
    traffic = Traffic()
    outer = _Outer(settings, hosts, traffic)
    app = web.Application(middlewares=[outer.middleware], client_max_size=settings.request_bytes)
    app[_SILENT] = {}
    app[_TRAFFIC] = traffic
    app.add_routes(gate.routes(endpoints))
    app.add_routes(openapi.routes(openapi.document(endpoints, VERSION, public_url)))
    app.add_routes(raw_routes)
    return app


class HttpServer:
    """Runs an application; `connection` is the protocol factory for the HTTPS listeners.

    ``ending`` is called when it stops, before open sockets are waited for.
    """

    def __init__(
        self,
        app: web.Application,
        first_request: float = FIRST_REQUEST,
        ending: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._app = app
        self._first_request = first_request
        self._ending = tuple(ending)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            handler_cancellation=True,
            auto_decompress=False,  # a signature covers the coded bytes; the JSON API takes none
            shutdown_timeout=5.0,
        )

    @property
    def traffic(self) -> Traffic:
        """What was answered so far."""
        return self._app[_TRAFFIC]

    def __len__(self) -> int:
        """Open connections, those of WebSockets included."""
        return 0 if self._runner.server is None else len(self._runner.server.connections)

    async def start(self) -> None:
        """Make ready to take connections."""
        await self._runner.setup()

    async def stop(self, deadline: float = 0.0) -> None:
        """End open requests and sockets; they have five seconds, and no more when the caller loses patience."""
        for end in self._ending:
            end()
        await self._runner.cleanup()

    def connection(self) -> asyncio.Protocol:
        """The protocol of one new connection."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("the HTTP server is not started")
        made = server()
        timer = asyncio.get_running_loop().call_later(self._first_request, self._close_silent, made)
        self._app[_SILENT][made] = timer
        return made

    def _close_silent(self, connection: Any) -> None:
        del self._app[_SILENT][connection]
        transport = connection.transport
        if transport is not None and not transport.is_closing():
            transport.write(_LATE)
            connection.force_close()


class _Outer:
    """What holds for every request."""

    def __init__(self, settings: HttpSettings, hosts: Hosts, traffic: Traffic) -> None:
        self._traffic = traffic
        self._origins = frozenset(settings.cors_origins)
        self._hosts = hosts

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._around(request, handler)

        self.middleware = middleware

    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        silence = request.app[_SILENT].pop(request.protocol, None)
        if silence is not None:
            silence.cancel()
        request_id = secrets.token_hex(8)
        began = asyncio.get_running_loop().time()
        response = await self._answer(request, handler, request_id)
        self._traffic.count(response.status, asyncio.get_running_loop().time() - began)
        if not response.prepared:
            self._decorate(request, response, request_id)
        log.info("request", method=request.method, path=_shown(request), status=response.status, id=request_id)
        return response

    async def _answer(self, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
        if not self._hosts.serve(request.headers.get("Host")):
            return http_refusal(421, request_id)
        asks_first = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if asks_first and request.match_info.http_exception is not None:  # what has no answer of its own
            return web.Response(status=204)
        try:
            return await handler(request)
        except DomainError as error:
            return refusal(error, request_id)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = http_refusal(error.status, request_id)
            for name in ("Allow", "Upgrade", "Connection"):
                if name in error.headers:
                    response.headers[name] = error.headers[name]
            return response
        except ConnectionError:
            raise
        except Exception as error:
            if is_full(error):
                return refusal(StorageFull("Nothing was changed, try again later"), request_id)
            log.exception("request failed", method=request.method, path=_shown(request), id=request_id)
            return internal(request_id)

    def _decorate(self, request: web.Request, response: web.StreamResponse, request_id: str) -> None:
        headers = response.headers
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        headers["X-Request-Id"] = request_id
        origin = request.headers.get("Origin")
        if response.get(OPEN_TO_ALL) or request.get(OPEN_REQUEST):
            headers["Access-Control-Allow-Origin"] = "*"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            return
        if origin is None:
            return
        headers.add("Vary", "Origin")
        if origin in self._origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            if request.method == "OPTIONS":
                headers.update(_PREFLIGHT)


def _shown(request: web.Request) -> str:
    """The path as the log has it: a token in it, and the address of a file, is a secret."""
    resource = request.match_info.route.resource
    is_secret = "token" in request.match_info or request.get(OPEN_REQUEST)
    return resource.canonical if resource is not None and is_secret else request.path
