"""One side of the signed API in this process: a real store, outbox, sender, gate and HTTP listener on loopback."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import select

from federation.destinations import Destinations
from federation.http.app import Admit, FederationApi, Mount
from federation.http.client import SignedTransport
from federation.http.fetch import Fetcher
from federation.http.keys import PeerKeys
from federation.http.own_keys import OwnKeys
from federation.http.prover import Prover
from federation.inbound import Inbound
from federation.policy import Limits, Pin, Policy
from federation.sender import Sender
from federation.transport import Ways
from homeserver.domain.ids import IdSource
from homeserver.domain.messages import Kind
from homeserver.protocol.stanza import Stanza
from homeserver.services.clock import Clock, SystemClock
from homeserver.services.outbox import Outbox, Patience
from homeserver.storage import schema
from homeserver.storage.database import Database, open_database
from homeserver.storage.log_index import LogRow

MOUNT = "/federation/v1"


@dataclass(frozen=True)
class Section:
    """A storage section as the settings give it."""

    path: Path
    url: str | None = None
    synchronous: str = "normal"
    readers: int = 2


class Sink:
    """Takes stanzas as a homeserver does, in its smallest form: messages into the log, the rest into lists."""

    def __init__(self, database: Database, ids: IdSource) -> None:
        self._database = database
        self._ids = ids
        self.subscriptions: list[Stanza] = []
        self.passed: list[Stanza] = []
        self.returns: list[Stanza] = []
        self.trip_over: str | None = None
        self.on_passing: Callable[[Stanza], Awaitable[None]] | None = None

    async def prepare(self, _needed: Sequence[Any]) -> None:
        await asyncio.sleep(0)

    def message(self, origin: str, stanza: Stanza, payload: bytes | None) -> None:
        if self.trip_over is not None and stanza.id == self.trip_over:
            raise RuntimeError("a fault of ours")
        self._append(stanza, payload or stanza.encode())

    async def subscription(self, origin: str, stanza: Stanza) -> None:
        await asyncio.sleep(0)
        self.subscriptions.append(stanza)

    def passing(self, origin: str, stanza: Stanza) -> Awaitable[None] | None:
        self.passed.append(stanza)
        return self.on_passing(stanza) if self.on_passing is not None else None

    def returned(self, stanza: Stanza) -> None:
        self.returns.append(stanza)
        self._append(stanza, stanza.encode())

    def _append(self, stanza: Stanza, payload: bytes) -> None:
        row = self._ids.next()
        self._database.commit.append(
            LogRow(row, row, None, None, stanza.sender.bare, int(Kind.CHAT), 8, stanza.id, None, payload)
        )


class Peer:
    """One homeserver with one domain. Start it with `open`, end it with `close`; the files stay for the next one.

    ``counts`` holds how often an event was counted. ``crash_point`` is given to the store.
    """

    def __init__(self, domain: str, directory: Path, clock: Clock | None = None, limits: Limits | None = None) -> None:
        self.domain = domain
        self.directory = directory
        self.clock = clock or SystemClock()
        self.limits = limits or Limits()
        self.policy = Policy()
        self.pins: dict[str, Pin] = {}
        self.counts: dict[str, int] = {}
        self.patience = Patience(backoff_min=0.05, backoff_max=0.2)
        self.port = 0
        self.gone: list[str] = []
        self.admit: Admit = lambda _domain, _address, _stanzas: 0.0
        self._stack = AsyncExitStack()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}{MOUNT}"

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def knows(self, other: "Peer", port: int | None = None) -> None:
        """Pin ``other``; ``port`` is that of a proxy before it."""
        self.pins[other.domain] = Pin(other.domain, f"http://127.0.0.1:{port or other.port}{MOUNT}")

    async def open(self, public: str | None = None, crash_point: Callable[[str], None] = lambda _: None) -> None:
        """Open the store and listen; ``public`` is the base peers use where it is not our own port (a proxy)."""
        section = Section(self.directory / self.domain / "parley.db")
        self._stack = AsyncExitStack()
        self.database = await self._stack.enter_async_context(open_database(section, crash_point=crash_point))
        ids = IdSource(self.clock.microseconds, self.database.commit.last_id)
        self.sink = Sink(self.database, ids)
        self.own = OwnKeys(self.directory / self.domain / "keys", {self.domain: [f"groups.{self.domain}"]}, self.clock)
        self.fetcher = Fetcher(self.pins, lenient=True)
        self.destinations = Destinations(self.fetcher, self.pins, self.database, self.clock)
        await self.destinations.start()
        self.keys = PeerKeys(self.fetcher, self.destinations, self.pins, self.database, self.clock, self.count)
        self.transport = SignedTransport(self.fetcher, self.destinations, self.own, self.keys, self.clock, 5.0)
        row_ids = IdSource(self.clock.microseconds)
        self.outbox = Outbox(self.database, self.clock, row_ids.next, self.sink, self.patience)
        await self.outbox.start()
        self.sender = Sender(self.outbox, Ways(self.destinations, self.transport), self.policy, self.limits, self.clock)
        self.inbound = Inbound(self.database, self.sink, self.own.owner, self.limits, self.clock, self.count)
        await self._listen(public)

    async def _listen(self, public: str | None) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
        if not self.port:
            self.port = await _free_port()
        self.api = FederationApi(
            Mount.at(public or self.base),
            Prover(self.own, self.keys, self.policy, self.clock),
            self.inbound,
            self.limits,
            self.clock,
            self.sender.heard,
            self.admit,
        )
        app.add_routes(self.api.routes())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.runner = runner

    async def close(self) -> None:
        """Stop; nothing is lost that was acknowledged."""
        await self.sender.close()
        await self.runner.cleanup()
        await self.inbound.close()
        await self.fetcher.close()
        await self._stack.aclose()

    def send(self, to: str, number: int, body: str = "hello") -> None:
        """Queue a message from ``a@domain``; its id is ``mNUMBER``."""
        sender = f"a@{self.domain}/r"
        payload = f"<message from='{sender}' to='{to}' type='chat' id='m{number}'><body>{body}</body></message>"
        domain = to.partition("@")[2].partition("/")[0]
        self.outbox.enqueue(self.domain, domain, f"m{number}", None, payload.encode(), sender)

    async def received(self) -> list[str]:
        """Ids of the messages in the log, in order."""
        return [row for (row,) in await self.database.read(_stanza_ids)]

    async def waits_for(self, count: int, seconds: float = 15.0) -> list[str]:
        """Wait until the log holds ``count`` messages; returns their ids."""
        async with asyncio.timeout(seconds):
            while len(found := await self.received()) < count:
                await asyncio.sleep(0.01)
        return found

    async def drained(self, seconds: float = 15.0) -> None:
        """Wait until the outbox is empty, on disk too."""
        async with asyncio.timeout(seconds):
            while any(lane.backlog or lane.newest > lane.committed for lane in self.outbox.lanes()) or (
                await self.database.read(_outbox_size) > 0
            ):
                await asyncio.sleep(0.01)


def _stanza_ids(connection: Any) -> list[Any]:
    return list(connection.execute(select(schema.log.c.stanza_id).order_by(schema.log.c.id)))


def _outbox_size(connection: Any) -> int:
    return len(list(connection.execute(select(schema.outbox.c.id))))


async def _free_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def two(directory: Path, limits: Limits | None = None) -> tuple[Peer, Peer]:
    """Two peers that know each other, listening and sending."""
    first, second = Peer("a.example", directory, limits=limits), Peer("b.example", directory, limits=limits)
    first.port, second.port = await _free_port(), await _free_port()
    first.knows(second)
    second.knows(first)
    for peer in (first, second):
        await peer.open()
        peer.sender.start(wake=False)
    return first, second
