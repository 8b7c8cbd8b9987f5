"""Endpoints as declarations: method, path, what goes in and out, who may call, what may be refused.

A handler is an ``async`` method whose parameters say what it needs, by name: ``caller`` (who the access token belongs
to), ``call`` (address and request), ``body`` and ``query`` (structs, decoded and checked), and the variables of the path.
The same declarations make the routes and the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import accumulate
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from aiohttp import web

from homeserver.domain.errors import BadRequest, DomainError, JidMalformed, RateLimited
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.services.limits import Limit, Limits, address_key
from homeserver.services.tokens import Caller, Tokens

MAX_DEPTH: Final = 64
BODY_TIME: Final = 30.0
"""Seconds for a body to arrive."""
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = {91: 1, 123: 1, 93: -1, 125: -1}
H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One declared endpoint. ``also`` are further successful statuses with their bodies; ``content`` the media types of
    a body that the handler reads itself, ``gives`` those of a `Binary` that it returns."""

    method: str
    path: str
    summary: str
    returns: type[msgspec.Struct] | None
    status: int
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    auth: bool = True
    also: Mapping[int, type[msgspec.Struct] | None] = field(default_factory=dict)
    errors: tuple[type[DomainError], ...] = ()
    content: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    @property
    def variables(self) -> list[str]:
        """Names of the variables in the path."""
        return re.findall(r"{(\w+)}", self.path)


@dataclass(frozen=True, slots=True)
class Call:
    """The request itself, for handlers that need more than its content."""

    request: web.Request
    address: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A result with another status than the usual one."""

    value: msgspec.Struct | None
    status: int


@dataclass(frozen=True, slots=True)
class Binary:
    """A result that is not JSON."""

    content: bytes
    media_type: str
    headers: Mapping[str, str]


def endpoint(
    method: str,
    path: str,
    *,
    returns: type[msgspec.Struct] | None = None,
    status: int = 200,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
    auth: bool = True,
    also: Mapping[int, type[msgspec.Struct] | None] | None = None,
    errors: tuple[type[DomainError], ...] = (),
    content: tuple[str, ...] = (),
    gives: tuple[str, ...] = (),
) -> Callable[[H], H]:
    """Declare a handler; its docstring's first line becomes the summary."""

    def declare(handler: H) -> H:
        summary = (inspect.getdoc(handler) or "").partition("\n")[0]
        made = Endpoint(method, path, summary, returns, status, body, query, auth, also or {}, errors, content, gives)
        unknown = set(inspect.signature(handler).parameters) - {"self", "caller", "call", "body", "query"}
        if unknown != set(made.variables):
            raise TypeError(f"{path}: the handler's parameters do not fit the path: {sorted(unknown)}")
        handler.__endpoint__ = made  # type: ignore[attr-defined]
        return handler

    return declare


def declared(group: object) -> Iterable[tuple[Endpoint, Callable[..., Awaitable[Any]]]]:
    """The endpoints of an object, in the order they are written."""
    for name in vars(type(group)):
        handler = getattr(group, name)
        found = getattr(handler, "__endpoint__", None)
        if found is not None:
            yield found, handler


class Gate:
    """Runs handlers: proves the caller, holds the limits, decodes what came, encodes what goes."""

    def __init__(self, tokens: Tokens, limits: Limits, max_body: int) -> None:
        self._tokens = tokens
        self._limits = limits
        self._max_body = max_body

    def routes(self, groups: Sequence[object]) -> list[web.RouteDef]:
        """The routes of all endpoints of ``groups``."""
        return [
            web.route(found.method, found.path, self._handler(found, handler))
            for group in groups
            for found, handler in declared(group)
        ]

    async def caller(self, request: web.Request) -> Caller:
        """Who the request's access token belongs to. Raises `NotAuthorized`."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            token = ""
        return await self._tokens.verify(token.strip())

    def admit(self, address: str, caller: Caller | None) -> None:
        """Count one request. Raises `RateLimited`."""
        if self._limits.exempt(address):
            return
        if caller is None:
            wait = self._limits.take(Limit.REQUEST_ADDRESS, address_key(address))
        else:
            wait = self._limits.take(Limit.REQUEST_ACCOUNT, caller.account.jid.bare)
        if wait:
            raise RateLimited("too many requests", wait)

    def _handler(
        self, declared: Endpoint, handler: Callable[..., Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        wanted = inspect.signature(handler).parameters

        async def run(request: web.Request) -> web.Response:
            address = request.remote or ""
            given: dict[str, Any] = {name: _text(request.match_info[name]) for name in declared.variables}
            if declared.auth:
                try:
                    caller = await self.caller(request)
                except DomainError:
                    # Who has no token is counted by address; who has one pays from the account alone.
                    self.admit(address, None)
                    raise
                self.admit(address, caller)
                given["caller"] = caller
            else:
                self.admit(address, None)
            if declared.query is not None:
                given["query"] = decode_query(request, declared.query)
            if declared.body is not None:
                given["body"] = await self._body(request, declared.body)
            if "call" in wanted:
                given["call"] = Call(request, address)
            return _respond(declared, await handler(**{name: value for name, value in given.items() if name in wanted}))

        return run

    async def _body(self, request: web.Request, kind: type[msgspec.Struct]) -> Any:
        if request.content_type != "application/json" or (request.charset or "utf-8").lower() != "utf-8":
            raise web.HTTPUnsupportedMediaType
        if request.content_length is not None and request.content_length > self._max_body:
            raise web.HTTPRequestEntityTooLarge(self._max_body, request.content_length)
        try:
            async with asyncio.timeout(BODY_TIME):
                raw = await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error
        return decode_body(raw, kind)


def decode_body(raw: bytes, kind: Any) -> Any:
    """Read a JSON body as ``kind``, a type or a union of tagged ones.

    Raises `BadRequest` for what is not JSON, and for what parsers understand differently: repeated names, NaN, lone
    surrogates, a byte order mark, NUL, deep nesting (RFC 8259 s4, s8, s9; RFC 7493).
    """
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise BadRequest("the body starts with a byte order mark")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise BadRequest(f"values are nested more than {MAX_DEPTH} deep")
    if b"\\u0000" in raw and _NUL.search(raw):
        raise BadRequest("a text holds NUL")
    try:
        json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not as documented: {_reason(error)}") from error


def decode_query(request: web.Request, kind: type[Any]) -> Any:
    """Read the query string as ``kind``. Raises `BadRequest`."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in found:
            raise BadRequest("a query parameter is given twice")
        found[name] = _text(value)
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query is not as documented: {_reason(error)}") from error


def address_of(text: str) -> JID:
    """An address from a request. Raises `JidMalformed`."""
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise JidMalformed("not an address") from error


def _respond(declared: Endpoint, result: Any) -> web.Response:
    status = declared.status
    if isinstance(result, Answer):
        status, result = result.status, result.value
    if isinstance(result, Binary):
        return web.Response(status=status, body=result.content, content_type=result.media_type, headers=result.headers)
    if status == HTTPStatus.NO_CONTENT or result is None:
        return web.Response(status=status)
    return web.Response(status=status, body=msgspec.json.encode(result), content_type="application/json")


def _text(value: str) -> str:
    """Text from the URL; percent-encoding can hide what UTF-8 cannot hold."""
    if "\x00" in value or not value.isprintable():
        raise BadRequest("the address of the request holds a character that is not allowed")
    return value


def _depth(raw: bytes) -> int:
    brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _reason(error: Exception) -> str:
    return (
        "nested too deep" if isinstance(error, RecursionError) else str(error)[:200].encode("utf-8", "replace").decode()
    )
