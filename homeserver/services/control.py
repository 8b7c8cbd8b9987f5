"""The socket by which the command line reaches a running server: one request and one answer for each connection, as lines
of JSON. Its file is readable by the server's user alone; whoever may open it may already read the database."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from homeserver.domain.errors import DomainError
from homeserver.services.operations import Arguments, Operations

log = structlog.get_logger(__name__)
SOCKET_NAME: Final = "control.sock"
_LINE_BYTES: Final = 65_536
_SECONDS: Final = 60.0
_PATH_BYTES: Final = 100


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """An operation and its arguments."""

    verb: str
    arguments: dict[str, Any]


class Answer(msgspec.Struct):
    """What the operation gave, or why it was refused."""

    result: Any = None
    error: str | None = None


class Control:
    """Serves the operations on a socket file below the data folder. A part of the server: `start`, `stop`."""

    def __init__(self, data_dir: Path, operations: Operations) -> None:
        self._path = data_dir / SOCKET_NAME
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Binds; a file left by a dead server is replaced (the database's lock has shown that no other one runs)."""
        self._path.unlink(missing_ok=True)
        with _address(self._path.parent) as address:
            self._server = await asyncio.start_unix_server(
                self._attend, address, limit=_LINE_BYTES, start_serving=False
            )
        self._path.chmod(0o600)
        await self._server.start_serving()

    async def stop(self, deadline: float) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                async with asyncio.timeout(_SECONDS):
                    line = await reader.readline()
                    if not line:
                        return
                    answer = await self._answer(line)
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    await writer.drain()
            except (OSError, ValueError, TimeoutError) as error:
                log.warning("control connection broke off", error=repr(error))

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = msgspec.json.decode(line, type=Request)
            result = await self._operations.run(request.verb, request.arguments)
        except msgspec.DecodeError as error:
            return Answer(error=f"not a request: {error}")
        except DomainError as error:
            return Answer(error=error.text or type(error).__name__)
        log.info("operator", verb=request.verb, on=request.arguments.get("address") or request.arguments.get("domain"))
        return Answer(result)


@contextlib.contextmanager
def _address(data_dir: Path) -> Iterator[str]:
    """The socket's path, by way of an open folder where it is longer than a socket address may be (unix(7))."""
    path = str(data_dir / SOCKET_NAME)
    if len(os.fsencode(path)) < _PATH_BYTES:
        yield path
        return
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


async def is_serving(data_dir: Path) -> bool:
    """Whether a server listens on its socket."""
    try:
        with _address(data_dir) as address:
            _, writer = await asyncio.open_unix_connection(address)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True


async def ask_server(data_dir: Path, verb: str, arguments: Arguments) -> Answer:
    """Have the running server do it. Raises `OSError` when it cannot be reached."""
    with _address(data_dir) as address:
        reader, writer = await asyncio.open_unix_connection(address)
    with contextlib.closing(writer):
        writer.write(msgspec.json.encode(Request(verb, dict(arguments))) + b"\n")
        await writer.drain()
        # Not a line limit: a list of accounts may be long.
        return msgspec.json.decode(await reader.read(-1), type=Answer)
