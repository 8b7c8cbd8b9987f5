"""Other servers' signing keys: fetched from them, kept for a while, remembered for ever.

A document is fetched over HTTPS from the base that the domain itself names, so TLS has vouched for it. What was seen
before still counts: a key id never changes its key, a document with a lower number is an old one, and a key that no
earlier key signed for is taken, but logged and counted, because this is what a change of owner looks like (S-179).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from federation.destinations import MAX_TTL, MIN_TTL, Destinations, Way, time_to_live
from federation.http.fetch import KEYS_BYTES, Fetcher, FetchFailed
from federation.policy import Pin
from homeserver.protocol.keydocs import KeyDocument, KeyDocumentRefused, PublishedKey, read_document
from homeserver.protocol.signing import SKEW
from homeserver.services.clock import Clock
from homeserver.services.store import Store
from homeserver.storage import peers as storage
from homeserver.storage.peers import PeerDocument, PeerKey

log = structlog.get_logger(__name__)

MAX_DOMAINS: Final = 10_000
AFTER_FAILURE: Final = 1.0
Count = Callable[[str], None]
"""Counts an event under its name."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A peer's key. ``domain`` is whose document lists it, ``names`` what that domain speaks for."""

    public: Ed25519PublicKey
    not_before: float
    not_after: float | None
    domain: str
    names: frozenset[str]

    def in_use(self, at: float) -> bool:
        """Whether it may have signed at that time."""
        return self.not_before - SKEW <= at and (self.not_after is None or at < self.not_after)


@dataclass(slots=True)
class _Cached:
    keys: dict[str, KnownKey]
    expires: float
    stale_after: float
    fetched: float
    failed: bool = False


class PeerKeys:
    """Finds the key with which a peer signed. ``count`` is told of what an operator should see."""

    def __init__(
        self,
        fetcher: Fetcher,
        destinations: Destinations,
        pins: Mapping[str, Pin],
        store: Store,
        clock: Clock,
        count: Count,
    ) -> None:
        self._fetcher = fetcher
        self._destinations = destinations
        self._store = store
        self._clock = clock
        self._count = count
        self._pinned = _pinned(pins)
        self._cache: dict[str, _Cached] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def reload(self, pins: Mapping[str, Pin]) -> None:
        """Take over other pins."""
        self._pinned = _pinned(pins)

    def peek(self, domain: str, key_id: str) -> KnownKey | None:
        """The key if it is at hand; does not wait."""
        pinned = self._pinned.get(domain)
        if pinned is not None:
            return pinned.get(key_id)
        cached = self._cache.get(domain)
        if cached is None or cached.expires <= self._clock.monotonic():
            return None
        return cached.keys.get(key_id)

    async def find(self, domain: str, key_id: str, ours: bool = False) -> KnownKey | None:
        """The key of ``domain`` with that id, fetched if need be: one fetch at a time and one a minute per domain.

        ``ours``: it is for the answer to a request of ours. A stranger cannot make us ask that, so a fetch that failed
        is repeated sooner.
        """
        found = self.peek(domain, key_id)
        if found is not None or domain in self._pinned:
            return found
        cached = self._cache.get(domain)
        pause = AFTER_FAILURE if cached is not None and cached.failed and ours else MIN_TTL
        if cached is None or cached.fetched + pause <= self._clock.monotonic():
            task = self._running.get(domain)
            if task is None:
                task = self._running[domain] = asyncio.create_task(self._refresh(domain))
                task.add_done_callback(lambda _: self._running.pop(domain, None))
            await asyncio.shield(task)
        cached = self._cache.get(domain)
        if cached is None or cached.stale_after <= self._clock.monotonic():
            return None
        return cached.keys.get(key_id)

    def forget(self, domain: str) -> None:
        """Fetch again when next asked."""
        self._cache.pop(domain, None)

    async def _refresh(self, domain: str) -> None:
        now = self._clock.monotonic()
        remembered: PeerDocument | None = await self._store.read(storage.document, domain)
        try:
            destination = await self._destinations.find(domain)
            if destination.way is not Way.SIGNED:
                raise FetchFailed(destination.reason or "has no signed API")
            fetched = await self._fetcher.get(domain, f"{destination.base}/keys/{domain}", KEYS_BYTES)
            if fetched.status != 200:
                raise FetchFailed(f"keys answered {fetched.status}", fetched.status)
            document = self._judge(domain, fetched.body, remembered)
        except (FetchFailed, KeyDocumentRefused) as error:
            log.warning("keys of a peer could not be fetched", domain=domain, reason=str(error))
            self._count("federation_key_fetch_failed")
            self._keep_old(domain, remembered, now)
            return
        merged = _merge(remembered, document, destination.base, domain)
        if remembered is None or merged != remembered:
            await self._store.write(storage.save_document, merged, self._clock.now())
        ttl = time_to_live(fetched.headers)
        self._put(domain, _Cached(_known(merged, document.domain), now + ttl, now + ttl + MAX_TTL, now))

    def _judge(self, domain: str, body: bytes, remembered: PeerDocument | None) -> KeyDocument:
        known = [_published(key) for key in remembered.keys] if remembered is not None else []
        now = self._clock.now()
        document = read_document(body, now, known)
        if document.domain != domain and domain not in document.subdomains:
            raise KeyDocumentRefused("it is of another domain")
        before = {key.id: key for key in known}
        for key in document.keys:
            if key.id in before and before[key.id].public != key.public:
                self._count("federation_key_id_reused")
                log.error("a peer gave a known key id to another key", domain=domain, key_id=key.id)
                raise KeyDocumentRefused("a key id was given to another key")
        if remembered is not None and document.number < remembered.number:
            raise KeyDocumentRefused("it is older than the one known")
        fresh = [key.id for key in document.keys if key.id not in before]
        vouched = any(key.id in document.signers and not key.ended(now) for key in known)
        if known and fresh and not vouched:
            self._count("federation_key_unvouched")
            log.error("a peer has a new key that none of its known keys signed for", domain=domain, key_ids=fresh)
        return document

    def _keep_old(self, domain: str, remembered: PeerDocument | None, now: float) -> None:
        cached = self._cache.get(domain)
        if cached is not None:
            cached.fetched = now
            cached.failed = True
            cached.expires = min(cached.stale_after, now + MIN_TTL)
        elif remembered is not None and remembered.keys:
            keys = _known(remembered, domain)
            self._put(domain, _Cached(keys, now + MIN_TTL, now + MAX_TTL, now, failed=True))
        else:
            self._put(domain, _Cached({}, now + MIN_TTL, now + MIN_TTL, now, failed=True))

    def _put(self, domain: str, cached: _Cached) -> None:
        if len(self._cache) >= MAX_DOMAINS:
            for name in [name for name, old in self._cache.items() if old.stale_after <= self._clock.monotonic()]:
                del self._cache[name]
            while len(self._cache) >= MAX_DOMAINS:
                del self._cache[next(iter(self._cache))]
        self._cache[domain] = cached


def _published(key: PeerKey) -> PublishedKey:
    end = None if key.not_after is None else int(key.not_after)
    return PublishedKey(key.id, key.public, int(key.not_before), end)


def _merge(remembered: PeerDocument | None, document: KeyDocument, base: str | None, domain: str) -> PeerDocument:
    """The new document with the keys that only the old one listed: those are ended, not forgotten."""
    listed = {
        key.id: PeerKey(key.id, key.public, float(key.not_before), None if key.not_after is None else float(key.not_after))
        for key in document.keys
    }  # fmt: skip
    for key in remembered.keys if remembered is not None else ():
        if key.id not in listed:
            listed[key.id] = PeerKey(key.id, key.public, key.not_before, min(key.not_after or 0.0, 0.0))
    keys = tuple(sorted(listed.values(), key=lambda key: key.id))
    return PeerDocument(domain, document.number, document.subdomains, base, keys)


def _known(document: PeerDocument, owner: str) -> dict[str, KnownKey]:
    names = frozenset((owner, *document.subdomains))
    return {
        key.id: KnownKey(Ed25519PublicKey.from_public_bytes(key.public), key.not_before, key.not_after, owner, names)
        for key in document.keys
    }


def _pinned(pins: Mapping[str, Pin]) -> dict[str, dict[str, KnownKey]]:
    return {
        domain: {
            key_id: KnownKey(Ed25519PublicKey.from_public_bytes(public), 0.0, None, domain, frozenset((domain,)))
            for key_id, public in pin.keys.items()
        }
        for domain, pin in pins.items()
        if pin.keys
    }
