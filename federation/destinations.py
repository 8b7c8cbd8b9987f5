"""How a domain is reached: discovery of its signed API (RFC 6415, XEP-0156's document).

``https://DOMAIN/.well-known/host-meta.json`` may carry a link whose ``rel`` is the namespace of the signed API; its
``href`` is the base. A pinned peer is not looked up. Only a valid document without the link, or 404 or 410, means that
a domain has no signed API. A domain that once had it never falls back to another way, or an attacker who can break one
fetch could choose the transport: where the document cannot be had its last base is used, where the link is gone the
domain waits.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final

import msgspec
import structlog

from federation.http.fetch import DOCUMENT_BYTES, REDIRECTS, Fetched, Fetcher, FetchFailed, check_url
from federation.policy import Pin
from homeserver.protocol import namespaces as ns
from homeserver.services.clock import Clock
from homeserver.services.store import Store
from homeserver.storage import peers as storage

log = structlog.get_logger(__name__)

MIN_TTL: Final = 60.0
MAX_TTL: Final = 86_400.0
DEFAULT_TTL: Final = 3600.0
FAILURE_TTL: Final = 5.0
"""Seconds after which a failed look-up is repeated; how often it is tried at all is decided by the back-off."""
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,10})(?:$|[,\s])", re.IGNORECASE)


class Way(Enum):
    """How to reach a domain. ``UNKNOWN``: it could not be found out now, so stanzas wait."""

    SIGNED = "signed"
    STREAMS = "streams"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Destination:
    """The way to a domain, and for the signed API its base URL without a slash at the end. ``reason``: why unknown."""

    way: Way
    base: str | None = None
    reason: str = ""


class _Link(msgspec.Struct):
    rel: str
    href: str = ""


class _HostMeta(msgspec.Struct):
    links: Annotated[list[_Link], msgspec.Meta(max_length=100)] = []


class Destinations:
    """Finds and remembers how domains are reached."""

    def __init__(self, fetcher: Fetcher, pins: Mapping[str, Pin], store: Store, clock: Clock) -> None:
        self._fetcher = fetcher
        self._pins = pins
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[Destination, float]] = {}
        self._bases: dict[str, str] = {}
        self._running: dict[str, asyncio.Task[Destination]] = {}

    async def start(self) -> None:
        """Read which domains had the signed API before."""
        self._bases = dict(await self._store.read(storage.bases))

    def reload(self, pins: Mapping[str, Pin]) -> None:
        """Take over other pins; what was looked up is looked up again."""
        self._pins = pins
        self._known.clear()

    def peek(self, domain: str) -> str | None:
        """The base URL last known for ``domain``, without looking it up."""
        pin = self._pins.get(domain)
        return pin.url if pin is not None and pin.url else self._bases.get(domain)

    async def find(self, domain: str) -> Destination:
        """How to reach ``domain``; looked up at most once at a time."""
        pin = self._pins.get(domain)
        if pin is not None and pin.url is not None:
            return Destination(Way.SIGNED, pin.url.rstrip("/"))
        known = self._known.get(domain)
        if known is not None and known[1] > self._clock.monotonic():
            return known[0]
        task = self._running.get(domain)
        if task is None:
            task = self._running[domain] = asyncio.create_task(self._find(domain))
            task.add_done_callback(lambda _: self._running.pop(domain, None))
        return await asyncio.shield(task)

    def forget(self, domain: str) -> None:
        """Look it up again next time: a request to it failed."""
        known = self._known.get(domain)
        if known is not None and known[0].way is not Way.UNKNOWN:
            self._known[domain] = (known[0], min(known[1], self._clock.monotonic() + MIN_TTL))

    async def _find(self, domain: str) -> Destination:
        ttl = FAILURE_TTL
        try:
            url = f"https://{domain}/.well-known/host-meta.json"
            fetched = await self._fetcher.get(domain, url, DOCUMENT_BYTES, REDIRECTS)
            found = self._judge(domain, fetched)
            ttl = time_to_live(fetched.headers)
        except FetchFailed as error:
            found = Destination(Way.UNKNOWN, reason=str(error))
        if found.way is Way.SIGNED and found.base is not None:
            if self._bases.get(domain) != found.base:
                await self._store.write(storage.save_base, domain, found.base)
                self._bases[domain] = found.base
        elif domain in self._bases:
            if found.way is Way.UNKNOWN:
                found, ttl = Destination(Way.SIGNED, self._bases[domain]), FAILURE_TTL
            else:
                found = Destination(Way.UNKNOWN, reason="its signed API is gone")
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[domain] = (found, self._clock.monotonic() + ttl)
        return found

    def _judge(self, domain: str, fetched: Fetched) -> Destination:
        if fetched.status in (404, 410):
            return Destination(Way.STREAMS)
        if fetched.status != 200:
            return Destination(Way.UNKNOWN, reason=f"discovery answered {fetched.status}")
        try:
            document = msgspec.json.decode(fetched.body, type=_HostMeta)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return Destination(Way.UNKNOWN, reason="discovery document is broken")
        for link in document.links:
            if link.rel == ns.PARLEY_FEDERATION:
                check_url(link.href, plain_allowed=domain in self._pins)
                return Destination(Way.SIGNED, link.href.rstrip("/"))
        return Destination(Way.STREAMS)


def time_to_live(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """How many seconds an answer may be kept: ``max-age`` within 1 minute and 24 hours (S-153)."""
    for name, value in headers:
        if name.lower() == b"cache-control" and (match := _MAX_AGE.search(value.decode("latin-1"))):
            return min(MAX_TTL, max(MIN_TTL, float(match[1])))
    return DEFAULT_TTL
