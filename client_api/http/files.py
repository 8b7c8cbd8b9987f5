"""Files over HTTP: PUT of a slot (XEP-0363 s7), GET with ranges, and uploads of JSON clients.

Neither way holds more than a few portions of a file in memory, and nothing looks into a file.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Meta, Struct

from client_api.http.app import OPEN_REQUEST
from client_api.http.endpoint import Call, endpoint
from homeserver.domain.errors import (
    BadRequest,
    NotAllowed,
    NotAuthorized,
    NotFound,
    RateLimited,
    ResourceConstraint,
    StorageFull,
    TooLarge,
)
from homeserver.domain.files import DEFAULT_NAME, File, is_shown, served_type
from homeserver.services.files import Files, Upload
from homeserver.services.tokens import Caller

BLOCK: Final = 64 * 1024
"""Bytes gathered before they are written: what arrives meanwhile is the next portion."""
READ: Final = 128 * 1024
FORM_OVERHEAD: Final = 16 * 1024
"""What a form may have around its file."""
PATIENCE: Final = 60.0
"""Seconds without a byte, in either direction, after which a transfer is given up."""
SLOWEST: Final = 4096
"""Bytes per second that an upload must reach on the whole, after the first minutes."""
YEAR: Final = 31_536_000
PATH: Final = "/files/{id:[0-9a-f]{32}}/{name:[^/]+}"
UPLOAD_ERRORS: Final = (BadRequest, NotAllowed, TooLarge, RateLimited, ResourceConstraint, StorageFull)
_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*(.*)", re.IGNORECASE)
_ONE_RANGE: Final = re.compile(r"(\d{0,18})[ \t]*-[ \t]*(\d{0,18})")
_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\%]')
_OPEN: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Range, ETag",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "OPTIONS, HEAD, GET, PUT",
    "Access-Control-Allow-Headers": "authorization, content-type, cookie, expires, if-none-match, if-range, range",
    "Access-Control-Max-Age": "86400",
    "Allow": "OPTIONS, HEAD, GET, PUT",
}
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}


class FileQuery(Struct, forbid_unknown_fields=True):
    """How the file is called."""

    name: Annotated[str, Meta(min_length=1, max_length=1023)] = DEFAULT_NAME


class StoredFile(Struct):
    """A stored file. Whoever has ``url`` can read it; it goes at ``expires_at``, unless that is null."""

    file_id: str
    url: str
    name: str
    content_type: str
    size: int
    expires_at: str | None


class FileUsage(Struct):
    """What the account has stored and may store, in bytes."""

    files: int
    bytes: int
    bytes_today: int
    max_file_bytes: int
    max_bytes: int
    max_bytes_per_day: int


class FileEndpoints:
    """Files of JSON clients."""

    def __init__(self, files: Files) -> None:
        self._files = files

    @endpoint(
        "POST",
        "/v1/files",
        query=FileQuery,
        content=("application/octet-stream", "multipart/form-data"),
        returns=StoredFile,
        status=201,
        errors=UPLOAD_ERRORS,
    )
    async def upload(self, caller: Caller, call: Call, query: FileQuery) -> StoredFile:
        """Store a file: the body itself, of any content type, or the first file of a form."""
        made = await self.store(caller, call.request, query.name)
        expires = None if made.expires is None else datetime.fromtimestamp(int(made.expires), UTC)
        return StoredFile(
            made.id,
            self._files.url(made.id, made.name),
            made.name,
            made.type,
            made.size,
            None if expires is None else expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    @endpoint("GET", "/v1/files/usage", returns=FileUsage)
    async def usage(self, caller: Caller) -> FileUsage:
        """What the account has stored, and its bounds."""
        used = await self._files.usage(caller.account)
        total, daily = self._files.quota
        return FileUsage(used.files, used.bytes, used.recent, self._files.max_bytes, total, daily)

    @endpoint("DELETE", "/v1/files/{file_id}", status=204, errors=(NotFound,))
    async def delete(self, caller: Caller, file_id: str) -> None:
        """Delete a file of the account."""
        await self._files.delete(caller.account, file_id)

    async def store(self, caller: Caller, request: web.Request, name: str) -> File:
        """Store what a request carries. Raises `UPLOAD_ERRORS`, and refusals of HTTP."""
        size = announced(request)
        if request.content_type == "multipart/form-data":
            return await self._store_form(caller, request, size)
        upload = await self._files.begin_direct(caller.account, name, size, request.headers.get("Content-Type"))
        return await receive(upload, request, size)

    def url(self, found: File) -> str:
        """The address of a file."""
        return self._files.url(found.id, found.name)

    async def _store_form(self, caller: Caller, request: web.Request, size: int) -> File:
        if size > self._files.max_bytes + FORM_OVERHEAD:
            raise TooLarge(f"File too large. The maximum file size is {self._files.max_bytes} bytes")
        try:
            async with asyncio.timeout(PATIENCE + size / SLOWEST):
                part = await _first_file(request)
                kind = part.headers.get("Content-Type")
                most = min(size, self._files.max_bytes)
                upload = await self._files.begin_direct(caller.account, part.filename or DEFAULT_NAME, most, kind)
                try:
                    while chunk := await part.read_chunk(BLOCK):
                        await upload.write((bytes(chunk),))
                    return await upload.finish(exact=False)
                finally:
                    upload.discard()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error
        except (ValueError, HttpProcessingError, web.RequestPayloadError) as error:
            raise BadRequest("the form cannot be read") from error


class FileRoutes:
    """Serves and takes files at their addresses. ``base`` is the URL they start with where files have a host name of
    their own, which is then the only one that serves them."""

    def __init__(self, files: Files, base: str | None) -> None:
        self._files = files
        self._host = (urlsplit(base).hostname or "").lower() if base else ""

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get(PATH, self.get),
            web.put(PATH, self.put),
            web.options(PATH, self.options),
        ]

    async def options(self, request: web.Request) -> web.Response:
        """Any web page may upload and read: what permits it is the token, or the address (Fetch s3.2)."""
        self._open(request)
        return web.Response(status=204, headers=_PREFLIGHT)

    async def put(self, request: web.Request) -> web.Response:
        """XEP-0363 s7."""
        self._open(request)
        size = announced(request)
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise NotAuthorized("the Authorization header of the slot is missing")
        place = request.match_info
        upload = await self._files.begin(
            place["id"], place["name"], token.strip(), size, request.headers.get("Content-Type")
        )
        made = await receive(upload, request, size)
        return web.Response(status=201, headers={"Location": self._files.url(made.id, made.name)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A file, or one range of it (RFC 9110 s14)."""
        self._open(request)
        found = await self._files.find(request.match_info["id"], request.match_info["name"])
        headers = self._headers(found)
        if _matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        first, last = 0, found.size - 1
        wanted = request.headers.get("Range") if request.method == "GET" else None
        if wanted is not None and request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
            try:
                asked = one_range(wanted, found.size)
            except ValueError:
                headers["Content-Range"] = f"bytes */{found.size}"
                return web.Response(status=416, headers=headers)
            if asked is not None:
                first, last = asked
                headers["Content-Range"] = f"bytes {first}-{last}/{found.size}"
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        response.content_length = last - first + 1
        await self._send(request, response, found, first, last + 1)
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, found: File, offset: int, end: int
    ) -> None:
        descriptor = await self._files.open(found)
        try:
            await response.prepare(request)
            while offset < end and request.method == "GET":
                block = await self._files.read(descriptor, min(READ, end - offset), offset)
                if not block:
                    raise ConnectionResetError("the content is shorter than the file")
                async with asyncio.timeout(PATIENCE):
                    await response.write(block)
                offset += len(block)
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from error
        finally:
            self._files.shut(descriptor)

    def _open(self, request: web.Request) -> None:
        request[OPEN_REQUEST] = True
        host = (request.headers.get("Host") or "").lower()
        if self._host and urlsplit(f"//{host}").hostname != self._host:
            raise NotFound("no such file")

    def _headers(self, found: File) -> dict[str, str]:
        life = self._files.lifetime(found)
        seconds = YEAR if life is None else max(0, min(YEAR, int(life)))
        way = "inline" if is_shown(found.type) else "attachment"
        plain = _UNSAFE.sub("_", found.name)
        return {
            **_SAFE,
            **_OPEN,
            "Accept-Ranges": "bytes",
            "Cache-Control": f"public, max-age={seconds}, immutable",
            "Content-Disposition": f"{way}; filename=\"{plain}\"; filename*=UTF-8''{quote(found.name, safe='')}",
            "Content-Type": served_type(found.type),
            "ETag": f'"{found.digest.hex()}"',
        }


def announced(request: web.Request) -> int:
    """The size that a request says it has. Refuses what is coded, chunked or only a piece."""
    size = request.content_length
    if size is None:
        raise web.HTTPLengthRequired
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType
    if "Content-Range" in request.headers:
        raise BadRequest("a file comes as a whole")
    return size


async def receive(upload: Upload, request: web.Request, size: int) -> File:
    """Take the body of a request as a file, portion by portion; returns when it is durable."""
    content = request.content
    try:
        async with asyncio.timeout(2 * PATIENCE + size / SLOWEST):
            gathered: list[bytes] = []
            count = 0
            while True:
                async with asyncio.timeout(PATIENCE):
                    chunk = await content.readany()
                gathered.append(chunk)
                count += len(chunk)
                if count >= BLOCK or not chunk:
                    await upload.write(gathered)
                    gathered, count = [], 0
                if not chunk:
                    break
        return await upload.finish()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except web.RequestPayloadError as error:
        raise BadRequest("the body cannot be read") from error
    finally:
        upload.discard()


def one_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None where it is to be ignored (RFC 9110 s14.2).

    Raises ValueError for what is not answered: several ranges, and one that the file does not reach.
    """
    unit = _RANGE.fullmatch(header)
    if unit is None:
        return None
    if "," in unit[1]:
        raise ValueError("several ranges")
    found = _ONE_RANGE.fullmatch(unit[1].strip())
    if found is None or found[1] == found[2] == "":
        raise ValueError("not a range")
    if not found[1]:
        length = int(found[2])
        if not length:
            raise ValueError("no bytes")
        return max(0, size - length), size - 1
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if first >= size or last < first:
        raise ValueError("beyond the end")
    return first, last


def _matches(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names the file (RFC 9110 s13.1.2)."""
    if header is None:
        return False
    return header.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in header.split(","))


async def _first_file(request: web.Request) -> BodyPartReader:
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if isinstance(part, BodyPartReader) and part.filename is not None:
            if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
                raise BadRequest("the file of the form is coded")
            return part
    raise BadRequest("the form has no file")
