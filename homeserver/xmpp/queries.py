"""Small questions: are you there, what time is it, what are you, since when (XEP-0199, 0202, 0092, 0012).

A question to another account is answered only for those who see its presence; everyone else is told what they would be
told of an account that does not exist.
"""

from datetime import UTC, datetime

from homeserver.domain.errors import ServiceUnavailable
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import Element, element
from homeserver.services.clock import Clock
from homeserver.services.presence import Presence
from homeserver.xmpp.feature import EVERYONE, Addressee, IqRequest, feature, on_iq


class Software:
    """What this server says of itself: name, version, and since when it runs."""

    def __init__(self, name: str, version: str, clock: Clock) -> None:
        self.name = name
        self.version = version
        self._clock = clock
        self._started = clock.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def uptime(self) -> int:
        """Whole seconds since the start."""
        return int(self._clock.monotonic() - self._started)


@feature(xep=199, version="2.0.1", disco=(ns.PING,), account_disco=(ns.PING,))
class Ping:
    """Answers pings (XEP-0199)."""

    presence: Presence

    @on_iq("get", ns.PING, "ping", to=EVERYONE)
    async def ping(self, request: IqRequest) -> Element | None:
        """XEP-0199 s4.2, s4.3."""
        await _admit(self.presence, request)
        return None


@feature(xep=202, version="2.0", disco=(ns.TIME,))
class Time:
    """Tells the time, in UTC and as UTC: the zone of the machine is nobody's business (XEP-0202 s6)."""

    software: Software

    @on_iq("get", ns.TIME, "time", to=(Addressee.DOMAIN, Addressee.OWN_ACCOUNT))
    async def time(self, _request: IqRequest) -> Element | None:
        """XEP-0202 s2."""
        now = datetime.fromtimestamp(int(self.software.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return element(
            ns.TIME, "time", None, element(ns.TIME, "tzo", None, "+00:00"), element(ns.TIME, "utc", None, now)
        )


@feature(xep=92, version="1.1", disco=(ns.VERSION,))
class Version:
    """Tells name and version; the operating system is not told (XEP-0092 s5)."""

    software: Software

    @on_iq("get", ns.VERSION, "query", to=(Addressee.DOMAIN, Addressee.OWN_ACCOUNT))
    async def version(self, _request: IqRequest) -> Element | None:
        """XEP-0092 s2."""
        return element(
            ns.VERSION,
            "query",
            None,
            element(ns.VERSION, "name", None, self.software.name),
            element(ns.VERSION, "version", None, self.software.version),
        )


@feature(xep=12, version="2.0", disco=(ns.LAST_ACTIVITY,), account_disco=(ns.LAST_ACTIVITY,))
class LastActivity:
    """Uptime of the server, and when an account was last available (XEP-0012)."""

    software: Software
    presence: Presence

    @on_iq("get", ns.LAST_ACTIVITY, "query", to=EVERYONE)
    async def last(self, request: IqRequest) -> Element | None:
        """XEP-0012 s3, s5. Who may not see the account's presence is refused (s8)."""
        if request.account is None:
            return _last(self.software.uptime())
        await _admit(self.presence, request)
        if self.presence.is_online(request.account):
            return _last(0)
        seen = await self.presence.last_seen(request.account, request.sender)
        if seen is None:
            raise ServiceUnavailable
        return _last(max(0, int(self.software.now() - seen.at)), seen.status)


def _last(seconds: int, words: str = "") -> Element:
    return element(ns.LAST_ACTIVITY, "query", {"seconds": str(seconds)}, *((words,) if words else ()))


async def _admit(presence: Presence, request: IqRequest) -> None:
    if request.addressee is Addressee.ACCOUNT and (
        request.account is None or not await presence.may_see(request.account, request.sender)
    ):
        raise ServiceUnavailable
