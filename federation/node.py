"""Builds the signed federation of one server from its settings."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from config.settings import FederationSettings
from federation.arrivals import Arrivals
from federation.destinations import Destinations
from federation.housekeeping import Housekeeping
from federation.http.app import Admit, FederationApi, Mount
from federation.http.client import SignedTransport
from federation.http.fetch import Fetcher
from federation.http.keys import PeerKeys
from federation.http.own_keys import OwnKeys
from federation.http.prover import Prover
from federation.inbound import Inbound
from federation.key_operations import KeyOperations, Verbs
from federation.policy import Limits, Pin, Policy
from federation.sender import Sender
from federation.transport import Ways
from homeserver.counts import Tally
from homeserver.metrics import FEDERATION_EVENTS, Metrics
from homeserver.services.clock import Clock
from homeserver.services.outbox import Outbox
from homeserver.services.presence import Presence
from homeserver.storage.database import Database


class Pinning:
    """Hands the operator's lists and pins to those who obey them, and new ones after a reload."""

    def __init__(self, policy: Policy, fetcher: Fetcher, destinations: Destinations, peers: PeerKeys) -> None:
        self._policy = policy
        self._fetcher = fetcher
        self._destinations = destinations
        self._peers = peers

    def reload(self, settings: FederationSettings) -> None:
        """Take over. Raises what a broken pin raises, and changes nothing."""
        pins = _pins(settings)
        # First the one that reads files and may refuse.
        self._fetcher.reload(pins)
        self._destinations.reload(pins)
        self._peers.reload(pins)
        self._policy.reload(settings.allow, settings.deny)


@dataclass(slots=True)
class FederationNode:
    """The running parts. ``routes`` belong on the HTTPS listener; the rest follows `start` and `stop`."""

    routes: list[web.RouteDef]
    destinations: Destinations
    sender: Sender
    inbound: Inbound
    housekeeping: Housekeeping
    wake: bool
    pinning: Pinning
    verbs: Verbs

    def reload(self, settings: FederationSettings) -> None:
        """Take over other lists and pins. Raises what a broken pin raises, and changes nothing."""
        self.pinning.reload(settings)

    async def start(self) -> None:
        """Begin to send what waits."""
        await self.destinations.start()
        self.sender.start(self.wake)
        self.housekeeping.start()

    async def stop(self, deadline: float) -> None:
        """Stop sending; what was under way is sent again after the next start."""
        await self.sender.close()
        await self.housekeeping.close()
        await self.inbound.close()


class Watcher:
    """Passes the news of peers on to presence (RFC 6121 s4.3)."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    def peer_unreachable(self, origin: str, destination: str) -> None:
        self._presence.peer_unreachable(destination)

    def peer_returned(self, origin: str, destination: str) -> None:
        self._presence.peer_returned(destination)


async def open_federation(
    settings: FederationSettings,
    domains: Mapping[str, Sequence[str]],
    base: str,
    data_dir: Path,
    clock: Clock,
    database: Database,
    outbox: Outbox,
    arrivals: Arrivals,
    presence: Presence,
    metrics: Metrics,
    admit: Admit,
    stack: AsyncExitStack,
) -> FederationNode:
    """Build everything; ``domains`` are those served, each with the names below it; ``base`` is the public URL of our API, ``data_dir`` holds the keys, ``admit`` slows peers down."""
    pins = _pins(settings)
    policy = Policy(settings.allow, settings.deny)
    limits = Limits(batch_stanzas=settings.batch_stanzas, batch_bytes=settings.batch_bytes)
    fetcher = Fetcher(pins, settings.allow_private_addresses)
    stack.push_async_callback(fetcher.close)
    own = open_keys(domains, data_dir, clock)
    destinations = Destinations(fetcher, pins, database, clock)
    events = Tally(*FEDERATION_EVENTS)
    peers = PeerKeys(fetcher, destinations, pins, database, clock, events.note)
    transport = SignedTransport(fetcher, destinations, own, peers, clock, settings.timeout)
    sender = Sender(outbox, Ways(destinations, transport), policy, limits, clock, settings.concurrency)
    sender.watch(Watcher(presence))
    inbound = Inbound(database, arrivals, own.owner, limits, clock, events.note)
    api = FederationApi(Mount.at(base), Prover(own, peers, policy, clock), inbound, limits, clock, sender.heard, admit)
    metrics.read_from("federation_events", lambda: events.counts)
    metrics.read_from("federation_sent", lambda: sender.outcomes.counts)
    metrics.read_from("federation_received", lambda: api.outcomes.counts)
    pinning = Pinning(policy, fetcher, destinations, peers)
    return FederationNode(
        api.routes(),
        destinations,
        sender,
        inbound,
        Housekeeping(inbound, own),
        settings.wake,
        pinning,
        KeyOperations(own, clock).verbs(),
    )


def open_keys(domains: Mapping[str, Sequence[str]], data_dir: Path, clock: Clock) -> OwnKeys:
    """The keys of this server; each domain speaks for the names below it too. Raises `KeyFileExposed`."""
    return OwnKeys(data_dir / "keys", domains, clock)


def _pins(settings: FederationSettings) -> dict[str, Pin]:
    return {peer.domain: Pin(peer.domain, peer.url, peer.ca_file, _keys(peer.keys)) for peer in settings.peer}


def _keys(texts: tuple[str, ...]) -> Mapping[str, bytes]:
    """Pinned keys: ``key-id:base64`` (32 bytes)."""
    found = {}
    for text in texts:
        key_id, _, encoded = text.rpartition(":")
        found[key_id] = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_")
    return found
