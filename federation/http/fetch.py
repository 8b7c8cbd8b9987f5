"""HTTP to strangers: bounded in size, time and redirects, and only to addresses they may name (S-150, S-151)."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from federation.addresses import GuardedResolver, guarded_socket
from federation.policy import Pin

DOCUMENT_BYTES: Final = 50_000
KEYS_BYTES: Final = 64_000
FETCH_SECONDS: Final = 10.0
REDIRECTS: Final = 3


class FetchFailed(Exception):
    """No usable answer. ``status`` is the HTTP status where there was one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: status, header lines as received, body (undecoded)."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Fetcher:
    """All outgoing HTTP of federation.

    Two pools of connections: one that reaches public addresses only, and one for peers the operator pinned.
    ``lenient`` sends everything through the second one (test rigs, private networks).
    """

    def __init__(self, pins: Mapping[str, Pin], lenient: bool = False, connections: int = 256) -> None:
        self._pins = pins
        self._lenient = lenient
        self._contexts = {domain: pin.context() for domain, pin in pins.items()}
        self._open = self._session(aiohttp.TCPConnector(limit=connections, ttl_dns_cache=60))
        self._guarded = self._session(
            aiohttp.TCPConnector(
                limit=connections, resolver=GuardedResolver(), use_dns_cache=False, socket_factory=guarded_socket
            )
        )

    def reload(self, pins: Mapping[str, Pin]) -> None:
        """Take over other pins, for requests from now on. Raises what a broken `ca_file` raises, and changes nothing."""
        self._contexts = {domain: pin.context() for domain, pin in pins.items()}
        self._pins = pins

    async def close(self) -> None:
        """Close all connections."""
        await self._open.close()
        await self._guarded.close()

    async def get(self, domain: str, url: str, limit: int, redirects: int = 0) -> Fetched:
        """GET ``url`` for ``domain``; at most ``limit`` bytes in `FETCH_SECONDS`, redirects included.

        Raises `FetchFailed`.
        """
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                for _ in range(redirects + 1):
                    fetched, location = await self._once(domain, "GET", url, {}, None, limit)
                    if location is None:
                        return fetched
                    url = urljoin(url, location)
        except TimeoutError as error:
            raise FetchFailed("timed out") from error
        raise FetchFailed("too many redirects")

    async def send(
        self, domain: str, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Fetched:
        """Send a signed request; follows nothing. Raises `FetchFailed`."""
        try:
            async with asyncio.timeout(seconds):
                fetched, _ = await self._once(domain, method, url, headers, body, 1024 * 1024)
                return fetched
        except TimeoutError as error:
            raise FetchFailed("timed out") from error

    async def _once(
        self, domain: str, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> tuple[Fetched, str | None]:
        pinned = domain in self._pins
        check_url(url, plain_allowed=pinned or self._lenient)
        session = self._open if pinned or self._lenient else self._guarded
        context: ssl.SSLContext | bool = self._contexts.get(domain) or True
        try:
            # The library would name a content type of its own, also where there is no content.
            async with session.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=context,
                skip_auto_headers=("Content-Type",),
            ) as answer:
                if answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
                    return Fetched(answer.status, (), b""), answer.headers["Location"]
                return Fetched(answer.status, answer.raw_headers, await _bounded(answer, limit)), None
        except (aiohttp.ClientError, OSError, ValueError, UnicodeError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}"[:300]) from error

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=10.0),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "Parley"},
        )


def check_url(url: str, plain_allowed: bool) -> None:
    """Raises `FetchFailed` unless ``url`` is https (or http, where ``plain_allowed``), without user or fragment."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (plain_allowed and parts.scheme == "http"):
        raise FetchFailed(f"not an https URL: {url[:200]}")
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise FetchFailed(f"not a usable URL: {url[:200]}")


async def _bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    if (answer.content_length or 0) > limit:
        raise FetchFailed("answer is too large", answer.status)
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > limit:
            raise FetchFailed("answer is too large", answer.status)
        parts.append(part)
    return b"".join(parts)
