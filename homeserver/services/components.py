"""External components: what is for their domains, while they are connected and while they are not.

Messages and subscriptions wait in the outbox, as they do for another server, and go away when the component has shown
that it read them: behind each batch it is sent a ping (XEP-0199), and any answer from it proves that it read what came
before. What it had not read when its connection ended comes once more: at least once. Where it is configured to answer
no pings, what was written counts as read: at most once, as far as the connection's end is not noticed.

Presence and queries are of use only now: to a component that is away they are dropped or refused.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Message, Stored
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza, StanzaError, error_reply
from homeserver.services.lanes import Claim, Lane
from homeserver.services.messaging import Messaging, Then
from homeserver.services.outbox import Outbox
from homeserver.services.router import DURABLE_PRESENCE, Router

log = structlog.get_logger(__name__)

BATCH_STANZAS: Final = 200
BATCH_BYTES: Final = 512 * 1024
AGAIN_SECONDS: Final = 1.0


class Link(Protocol):
    """The connection of a component."""

    def write(self, stanza: bytes) -> None:
        """Send a stanza; what is written after the end goes nowhere."""

    async def confirmed(self) -> bool:
        """Whether the component has read what was written before; false where the connection ended instead."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed with a component: its domain, the served domain above it, its secret, whether it answers pings."""

    domain: str
    origin: str
    secret: str
    confirms: bool = True


class Component:
    """Attached to the domain of a component, which may come and go.

    ``watchers`` are told with True when it has connected and with False when it is gone.
    """

    def __init__(self, terms: Terms, messaging: Messaging, outbox: Outbox, router: Router) -> None:
        self.terms = terms
        self.watchers: list[Callable[[bool], None]] = []
        self._messaging = messaging
        self._outbox = outbox
        self._router = router
        self._link: Link | None = None
        self._written = 0
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        outbox.attend(self._ready, terms.domain)

    @property
    def link(self) -> Link | None:
        """The connection, if there is one."""
        return self._link

    # --- Attached ---------------------------------------------------------------------------------------------------

    def submit(self, sender: Account | None, source: JID, message: Message, then: Then) -> Stored | None:
        """A message that waits if need be; it is in the archive of a local sender."""
        return self._messaging.forward(sender, source, message, self.terms.origin, then)

    def route(self, stanza: Stanza) -> None:
        """A query, presence, or an error."""
        terms, payload = self.terms, stanza.encode()
        if stanza.name == "message" or stanza.type in DURABLE_PRESENCE:
            self._outbox.enqueue(terms.origin, terms.domain, stanza.id, None, payload, str(stanza.sender))
            return
        link = self._link
        asks = stanza.name == "iq" and stanza.type in ("get", "set")
        if link is None:
            if asks:
                self._unanswered(stanza, "service-unavailable")
        elif (stanza.name == "iq" and not asks) or self._is_level():
            # An answer need not keep its place: who waits for it may read nothing else before.
            link.write(payload)
        else:
            self._outbox.pass_on(
                terms.origin, terms.domain, payload, partial(self._unanswered, stanza) if asks else None
            )

    def _unanswered(self, request: Stanza, condition: str) -> None:
        """A query that the component never got is answered in its name (RFC 6120 s8.3.3.19)."""
        if request.to is not None:
            self._router.route(Stanza(error_reply(request, StanzaError(condition)), request.to, request.sender))

    # --- the connection ---------------------------------------------------------------------------------------------

    def connected(self, link: Link) -> None:
        """The component is there: it is given what waits."""
        self._link = link
        self._written = 0
        for watcher in self.watchers:
            watcher(True)
        self._ready(self._lane())

    def gone(self, link: Link) -> None:
        """Its connection has ended."""
        if self._link is not link:
            return
        self._link = None
        self._lane().drop_passing()
        for watcher in self.watchers:
            watcher(False)

    async def close(self) -> None:
        """Stop handing over."""
        self._link = None
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    # --- handing over -----------------------------------------------------------------------------------------------

    def _lane(self) -> Lane:
        return self._outbox.lane(self.terms.origin, self.terms.domain)

    def _is_level(self) -> bool:
        """Whether everything durable that was queued before was written already."""
        lane = self._lane()
        if lane.passing:
            return False
        return lane.newest <= self._written or (not lane.backlog and lane.committed >= lane.newest)

    def _ready(self, lane: Lane) -> None:
        """The lane has work, or a link to be used."""
        if self._link is None:
            lane.drop_passing()
        elif self._work is None and lane.has_work:
            self._work = asyncio.create_task(self._hand_over(lane, self._link))
            self._work.add_done_callback(partial(self._handed_over, lane))

    def _handed_over(self, lane: Lane, _task: "asyncio.Task[None]") -> None:
        self._work = None
        if lane.can_send and self._link is not None and self._timer is None:
            self._ready(lane)

    async def _hand_over(self, lane: Lane, link: Link) -> None:
        """Write one batch after the other, each when the one before was read."""
        try:
            async with lane.turn:
                while self._link is link:
                    claim = await self._outbox.claim(lane, BATCH_STANZAS, BATCH_BYTES)
                    if claim is None or not await self._give(lane, link, claim):
                        return
        except Exception:
            # A fault of our own (a full disk, a lost database) must not end the hand-over for ever.
            log.exception("handing over to a component failed", component=self.terms.domain)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._again, lane)

    def _again(self, lane: Lane) -> None:
        self._timer = None
        self._ready(lane)

    async def _give(self, lane: Lane, link: Link, claim: Claim) -> bool:
        """Write what was claimed; whether it was read."""
        if self._link is not link:
            for one in claim.passing:
                if one.failed is not None:
                    one.failed("service-unavailable")
            return False
        for row in claim.rows:
            if row.payload is not None:
                link.write(row.payload)
        for one in claim.passing:
            link.write(one.payload)
        if not claim.rows:
            return True
        self._written = claim.rows[-1].id
        if self.terms.confirms and not await link.confirmed():
            return False
        last = claim.first + len(claim.rows) - 1
        return await self._outbox.settle(lane, lane.numbering.epoch, last, {})


class Components:
    """The configured components by domain, connected or not."""

    def __init__(self, agreed: Iterable[Terms], messaging: Messaging, outbox: Outbox, router: Router) -> None:
        self._by_domain: dict[str, Component] = {}
        for terms in agreed:
            made = self._by_domain[terms.domain] = Component(terms, messaging, outbox, router)
            router.attach(terms.domain, made)

    def find(self, domain: str) -> Component | None:
        """The component of a domain."""
        return self._by_domain.get(domain)

    def secret(self, domain: str) -> str | None:
        """What the component of a domain has to know; None for any other domain."""
        found = self._by_domain.get(domain)
        return None if found is None else found.terms.secret

    def watch(self, watcher: Callable[[str, bool], None]) -> None:
        """Tell ``watcher`` with the domain when a component comes (True) and goes (False)."""
        for domain, component in self._by_domain.items():
            component.watchers.append(partial(watcher, domain))

    async def close(self) -> None:
        """Stop handing over; what was not read waits."""
        for component in self._by_domain.values():
            await component.close()
