"""The seam between the queue and the ways to reach another server."""

from dataclasses import dataclass, field
from typing import Protocol

from federation.destinations import Destinations, Way
from homeserver.services.lanes import Claim


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is handed over at once: ``claim`` of the queue from ``origin`` to ``destination``, with its epoch."""

    origin: str
    destination: str
    epoch: str
    previous_epoch: str | None
    claim: Claim


@dataclass(frozen=True, slots=True)
class Delivered:
    """The peer proved what it holds: everything of ``epoch`` up to ``accepted``; ``rejected``: number to reason."""

    epoch: str
    accepted: int
    rejected: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Misnumbered:
    """The peer proved that it holds other numbers than these could follow."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The peer takes smaller requests only."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer proved that it takes nothing from us."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing is known to have arrived; try again, not before ``after`` seconds where the peer named a time."""

    reason: str
    after: float | None = None


Receipt = Delivered | Misnumbered | TooLarge | Refused | Retry


class Transport(Protocol):
    """One way to hand parcels over. It never raises for what the peer or the network does."""

    async def deliver(self, parcel: Parcel) -> Receipt:
        """Hand a parcel over and return what the peer made of it."""

    async def wake(self, origin: str, destination: str) -> bool:
        """Tell the peer that we are there. Whether it heard."""


class Ways:
    """Picks the transport for a domain. ``streams`` reaches peers without the signed API; None: there is no such."""

    def __init__(self, destinations: Destinations, signed: Transport, streams: Transport | None = None) -> None:
        self._destinations = destinations
        self._signed = signed
        self._streams = streams

    async def choose(self, destination: str) -> Transport | Retry:
        """The transport, or why there is none now."""
        found = await self._destinations.find(destination)
        if found.way is Way.SIGNED:
            return self._signed
        if found.way is Way.STREAMS and self._streams is not None:
            return self._streams
        return Retry(found.reason or "has no signed API")

    async def wake(self, origin: str, destination: str) -> bool:
        """Tell a peer that is known to have the signed API that we are there."""
        return self._destinations.peek(destination) is not None and await self._signed.wake(origin, destination)
