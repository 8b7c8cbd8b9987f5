"""Token buckets: how often an address, an account or a peer may do something.

A bucket holds ``capacity`` tokens and refills evenly; what takes more than there is is told how long to wait. Buckets
that are full again carry no information, so each kind keeps a bounded number of them and forgets the one unused
longest.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from homeserver.counts import Tally

if TYPE_CHECKING:
    from config.settings import LimitSettings
    from config.units import Rate

MAX_BUCKETS: Final = 20_000
"""Buckets kept per kind; about 200 bytes each."""


class Limit(Enum):
    """What is counted; the value is the setting that gives the rate."""

    LOGIN_ADDRESS = "logins_per_address"
    LOGIN_ACCOUNT = "logins_per_account"
    REGISTRATION = "registrations_per_address"
    REQUEST_ADDRESS = "requests_per_address"
    REQUEST_ACCOUNT = "requests_per_account"
    SEARCH = "searches_per_account"
    STANZA_ACCOUNT = "stanzas_per_account"
    BYTES_ACCOUNT = "bytes_per_account"
    STANZA_PEER = "stanzas_per_peer"
    PRESENCE_ACCOUNT = "presence_per_account"
    SUBSCRIPTION_ACCOUNT = "subscriptions_per_account"
    SUBSCRIPTION_SENDER = "subscriptions_per_sender"
    SUBSCRIPTION_PEER = "subscriptions_per_peer"
    REPORT_ACCOUNT = "reports_per_account"


LABELS: Final = {
    Limit.LOGIN_ADDRESS: "login",
    Limit.LOGIN_ACCOUNT: "login",
    Limit.REGISTRATION: "registration",
    Limit.REQUEST_ADDRESS: "request",
    Limit.REQUEST_ACCOUNT: "request",
    Limit.SEARCH: "search",
    Limit.STANZA_ACCOUNT: "stanza",
    Limit.BYTES_ACCOUNT: "bytes",
    Limit.STANZA_PEER: "peer",
    Limit.PRESENCE_ACCOUNT: "presence",
    Limit.SUBSCRIPTION_ACCOUNT: "subscription",
    Limit.SUBSCRIPTION_SENDER: "subscription",
    Limit.SUBSCRIPTION_PEER: "subscription",
    Limit.REPORT_ACCOUNT: "report",
}
"""The names of limits in the metrics."""


def _uncounted() -> None:
    """Nobody counts how often this bucket was empty."""


class Bucket:
    """One bucket. ``monotonic`` gives seconds; ``rate`` is tokens per second; ``on_empty`` is called when it refuses."""

    __slots__ = ("_level", "_monotonic", "_on_empty", "_then", "capacity", "rate")

    def __init__(
        self,
        capacity: float,
        rate: float,
        monotonic: Callable[[], float],
        on_empty: Callable[[], None] = _uncounted,
    ) -> None:
        self.capacity = capacity
        self.rate = rate
        self._monotonic = monotonic
        self._on_empty = on_empty
        self._level = capacity
        self._then = monotonic()

    def take(self, cost: float = 1.0) -> bool:
        """Take ``cost`` tokens if they are there."""
        now = self._monotonic()
        level = self._level + (now - self._then) * self.rate
        if level > self.capacity:  # noqa: PLR1730 min() costs a third of this call
            level = self.capacity
        self._then = now
        if level < cost:
            self._level = level
            self._on_empty()
            return False
        self._level = level - cost
        return True

    def wait(self, cost: float = 1.0) -> float:
        """Seconds until ``cost`` tokens are there; 0 when they are. A cost above the capacity counts as the capacity."""
        missing = min(cost, self.capacity) - self.level()
        return missing / self.rate if missing > 0 else 0.0

    def charge(self, cost: float = 1.0) -> float:
        """Take ``cost`` tokens although there may be fewer; returns the seconds to wait before taking more."""
        self._level = self.level() - cost
        if self._level >= 0:
            return 0.0
        self._on_empty()
        return -self._level / self.rate

    def change(self, capacity: float, rate: float) -> None:
        """Another size and speed; what was taken stays taken."""
        taken = self.capacity - self.level()
        self.capacity, self.rate = capacity, rate
        self._level = capacity - taken

    def level(self) -> float:
        """Tokens there now; below 0 after `charge`."""
        now = self._monotonic()
        self._level = min(self.capacity, self._level + (now - self._then) * self.rate)
        self._then = now
        return self._level


class Limits:
    """All buckets of the server. ``limited`` counts refusals by kind, ``logins`` their outcomes."""

    def __init__(self, settings: LimitSettings, monotonic: Callable[[], float], most: int = MAX_BUCKETS) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._most = most
        self._buckets: dict[Limit, OrderedDict[str, Bucket]] = {kind: OrderedDict() for kind in Limit}
        self.limited = Tally(*dict.fromkeys(LABELS.values()))
        self.logins = Tally("accepted", "refused")
        self._on_empty = {
            kind: _uncounted if label == "login" else partial(self.limited.add, label) for kind, label in LABELS.items()
        }

    def reload(self, settings: LimitSettings) -> None:
        """Take over other rates, for buckets that are there too."""
        self._settings = settings
        for kind, buckets in self._buckets.items():
            rate: Rate = getattr(settings, kind.value)
            for bucket in buckets.values():
                bucket.change(rate.events, rate.per_second)

    def take(self, kind: Limit, key: str, cost: float = 1.0) -> float:
        """Take ``cost`` tokens; 0 when they were there, else the seconds after which to try again (nothing is taken)."""
        bucket = self.bucket(kind, key)
        return 0.0 if bucket.take(cost) else max(bucket.wait(cost), 0.001)

    def blocked(self, kind: Limit, key: str) -> float:
        """Seconds until a token is there, taking none: for limits that count failures only."""
        found = self._buckets[kind].get(key)
        return 0.0 if found is None else found.wait()

    def bucket(self, kind: Limit, key: str) -> Bucket:
        """The bucket of ``key``, made full when there is none. A connection may keep it for as long as it lives."""
        found = self._buckets[kind].get(key)
        if found is not None:
            self._buckets[kind].move_to_end(key)
            return found
        rate: Rate = getattr(self._settings, kind.value)
        made = Bucket(rate.events, rate.per_second, self._monotonic, self._on_empty[kind])
        self._buckets[kind][key] = made
        if len(self._buckets[kind]) > self._most:
            self._buckets[kind].popitem(last=False)
        return made

    def login_wait(self, address: str, bare: str) -> float:
        """Seconds this peer address must wait before it may try to log in to account ``bare``; 0 when it may now.

        Only failures count. Failures from elsewhere do not: who guesses does not lock out the owner.
        """
        if self.exempt(address):
            return 0.0
        key = address_key(address)
        wait = max(
            self.blocked(Limit.LOGIN_ADDRESS, key),
            self.blocked(Limit.LOGIN_ACCOUNT, f"{key} {bare}"),
        )
        if wait:
            self.limited.add("login")
        return wait

    def login_accepted(self) -> None:
        """Count a login."""
        self.logins.add("accepted")

    def login_failed(self, address: str, bare: str) -> None:
        """Count a wrong proof or password."""
        self.logins.add("refused")
        if not self.exempt(address):
            key = address_key(address)
            self.take(Limit.LOGIN_ADDRESS, key)
            self.take(Limit.LOGIN_ACCOUNT, f"{key} {bare}")

    def peer_wait(self, domain: str, address: str, stanzas: int) -> float:
        """Seconds that another server must wait with so many stanzas; 0 when they were counted and may come in."""
        if self.exempt(address):
            return 0.0
        bucket = self.bucket(Limit.STANZA_PEER, domain)
        return self.take(Limit.STANZA_PEER, domain, min(stanzas, bucket.capacity))

    def exempt(self, address: str) -> bool:
        """Whether rate limits are off for this peer address."""
        return self._settings.off_on_loopback and _is_loopback(address)


def address_key(address: str) -> str:
    """The key of a peer address: an IPv6 client has a /64 of addresses, which count as one."""
    return _address_key(address)


@lru_cache(maxsize=4096)
def _address_key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)


@lru_cache(maxsize=4096)
def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback
