"""Presence: who is available, and who is told (RFC 6121 s4).

A broadcast is serialised once; each contact's copy is the same text with its address put in. Contacts of this server
are given it directly, others through the router's passing lane. Nothing here waits but two things: the roster of an
account that no session has asked for yet, and the time an account was last seen.

Sessions are walked over copies: one that is given too much ends at once and leaves the list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from homeserver.domain.errors import BadRequest, RateLimited, ResourceConstraint
from homeserver.domain.subscriptions import SUBSCRIBE
from homeserver.protocol.presence import Broadcast, presence, priority_of, status_of
from homeserver.protocol.stanza import PRESENCE, Stanza
from homeserver.protocol.xml import Element
from homeserver.storage import activity

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.rosters import Roster
    from homeserver.domain.sessions import Session
    from homeserver.protocol.jid import JID
    from homeserver.services.admission import Admission
    from homeserver.services.clock import Clock
    from homeserver.services.contacts import Contacts
    from homeserver.services.privacy import Privacy
    from homeserver.services.router import Router
    from homeserver.services.sessions import Sessions
    from homeserver.storage.database import Database

MAX_DIRECTED: Final = 1000
"""Addresses one session may show itself to besides its subscribers; rooms are the usual case."""
MAX_STATUS: Final = 1024
UNAVAILABLE: Final = "unavailable"


@dataclass(frozen=True, slots=True)
class LastSeen:
    """When an account was last available (seconds since the epoch), and what it said on leaving."""

    at: float
    status: str


@dataclass(slots=True)
class _Live:
    """What is known of a session that showed itself to somebody. ``roster`` keeps the roster in memory once the
    session's presence was announced to it; ``directed`` are those it sent presence to by name (RFC 6121 s4.6)."""

    roster: Roster | None = None
    directed: set[JID] = field(default_factory=set)
    takes_messages: bool = False


class Presence:
    """Presence of local accounts and for local accounts.

    ``on_initial`` is called with a session that from now on takes messages: it became available with a priority of 0
    or more, or raised it from below 0. ``on_shown`` is called with a session whose presence was broadcast, and whether
    it was the first; ``on_gone`` with one that became unavailable. ``on_contact`` is called with a local account and the
    available or unavailable presence that somebody elsewhere showed it; ``on_unreachable`` with a domain whose contacts
    were shown unavailable because it is out of reach. ``decorate`` may give the element of a presence that goes out
    another content; what it needs it has loaded in ``prepare``, which presence waits for.
    """

    def __init__(
        self,
        contacts: Contacts,
        sessions: Sessions,
        router: Router,
        database: Database,
        clock: Clock,
        privacy: Privacy,
        admission: Admission,
    ) -> None:
        self._contacts = contacts
        self._sessions = sessions
        self._router = router
        self._database = database
        self._clock = clock
        self._privacy = privacy
        self._admission = admission
        self._live: dict[Session, _Live] = {}
        self._asked_again: set[str] = set()
        self.on_initial: list[Callable[[Session], None]] = []
        self.on_shown: list[Callable[[Session, bool], None]] = []
        self.on_gone: list[Callable[[Session], None]] = []
        self.on_contact: list[Callable[[Account, Stanza], None]] = []
        self.on_unreachable: list[Callable[[str], None]] = []
        self.prepare: Callable[[Account], Awaitable[None] | None] = lambda _account: None
        self.decorate: Callable[[Session, Element], Element] = lambda _session, element: element
        privacy.is_addressed.append(self.is_addressed)
        contacts.on_granted.append(self._granted)
        contacts.on_revoked.append(self._revoked)
        sessions.on_ended.append(self._ended)

    # --- from a local session ---------------------------------------------------------------------------------------

    def available(self, session: Session, stanza: Stanza) -> Awaitable[None] | None:
        """A session became available or updates what it shows (RFC 6121 s4.2.2, s4.4.2).

        Raises `BadRequest` for a priority that is none, `RateLimited` for too many changes.
        """
        try:
            priority = priority_of(stanza.element)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        self._admission.broadcast(session.account)
        loading = [found for found in (self._privacy.loading(session.account), self.prepare(session.account)) if found]
        if loading:
            return self._available_later(session, stanza, priority, loading)
        return self._available(session, stanza, priority)

    def _available(self, session: Session, stanza: Stanza, priority: int) -> Awaitable[None] | None:
        shown = Broadcast(self.decorate(session, stanza.element), session.jid, stanza.element)
        session.presence = shown
        session.priority = priority
        roster = self._contacts.held(session.jid.bare)
        if roster is None:
            return self._announce_later(session, shown)
        return self._announce(session, shown, roster)

    async def _available_later(
        self, session: Session, stanza: Stanza, priority: int, loading: Sequence[Awaitable[object]]
    ) -> None:
        for part in loading:
            await part
        waiting = self._available(session, stanza, priority)
        if waiting is not None:
            await waiting

    def refresh(self, account: Account) -> None:
        """What `decorate` adds has changed: contacts are told, unless they were told too much lately."""
        for session in tuple(self._sessions.of(account.jid.bare)):
            live, before = self._live.get(session), session.presence
            if live is None or live.roster is None or not isinstance(before, Broadcast):
                continue
            shown = session.presence = Broadcast(self.decorate(session, before.said), session.jid, before.said)
            with suppress(RateLimited):
                self._admission.broadcast(account)
                self._show(session, shown, live.roster)

    def unavailable(self, session: Session, stanza: Stanza | None) -> None:
        """A session became unavailable, saying so with ``stanza``, or without a word (RFC 6121 s4.5.2).

        All who could see it are told, also those it showed itself to by name. Does nothing for a session that showed
        itself to nobody.
        """
        live = self._live.pop(session, None)
        was_available = session.presence is not None
        session.presence = None
        session.priority = None
        if live is None:
            return
        for listener in self.on_gone:
            listener(session)
        leaving = Element(PRESENCE, {"type": UNAVAILABLE}) if stanza is None else stanza.element
        gone = Broadcast(leaving, session.jid)
        if live.roster is not None:
            self._broadcast(live.roster, gone)
            own = gone.to_recipient(session.account.jid)
            for other in tuple(self._sessions.of(session.jid.bare)):
                if other.presence is not None or (other is session and stanza is not None):
                    other.send(own)
        for jid in live.directed:
            if live.roster is None or not live.roster.shares_with(jid.bare):
                self._router.route(gone.to_recipient(jid))
        if was_available and not self.is_online(session.account):
            words = status_of(leaving)[:MAX_STATUS]
            self._database.commit.also(activity.note, session.account.id, self._clock.now(), words)

    def directed(self, session: Session, stanza: Stanza) -> None:
        """A session shows itself to somebody by name, or takes that back (RFC 6121 s4.6.3).

        Raises `ResourceConstraint` when it did so to too many.
        """
        to = stanza.to
        if to is None:
            raise BadRequest("directed presence has an address")
        live = self._live.setdefault(session, _Live())
        if stanza.type == UNAVAILABLE:
            live.directed.discard(to)
        elif to not in live.directed:
            if len(live.directed) >= MAX_DIRECTED:
                raise ResourceConstraint("presence was sent to too many addresses")
            live.directed.add(to)
        shown = stanza.element if stanza.type == UNAVAILABLE else self.decorate(session, stanza.element)
        self._router.route(Broadcast(shown, session.jid).to_recipient(to))

    # --- for a local account ----------------------------------------------------------------------------------------

    def received(self, account: Account, stanza: Stanza) -> None:
        """Available or unavailable presence, or a presence error, for a local address (RFC 6121 s8.5.2.1.2, s8.5.3).

        An error to the bare JID answers a subscription stanza (RFC 6121 s3.1.2).
        """
        to = stanza.to
        if to is None:
            return
        parting = stanza.type != ""
        if stanza.type != "error":
            for listener in self.on_contact:
                listener(account, stanza)
        if to.resource:
            session = self._sessions.find(to)
            if session is not None:
                if parting:
                    self._forget(session, stanza.sender)
                session.send(stanza)
            return
        found = [session for session in self._sessions.of(to.bare) if session.presence is not None]
        if len(found) > 1:
            stanza = addressed(stanza, to)
        for session in found:
            if parting:
                self._forget(session, stanza.sender)
            session.send(stanza)

    # --- asked by others --------------------------------------------------------------------------------------------

    def is_online(self, account: Account) -> bool:
        """Whether the account has an available session."""
        return any(session.presence is not None for session in self._sessions.of(account.jid.bare))

    def is_shown(self, session: Session, asker: JID) -> bool:
        """Whether the session sent presence to ``asker`` by name."""
        live = self._live.get(session)
        return live is not None and asker in live.directed

    def is_visible(self, jid: JID, asker: JID) -> bool:
        """Whether ``asker`` may know of the session with that full JID: the account itself, a subscriber, or someone
        the session sent presence to (RFC 6121 s8.5.3.1)."""
        if asker.bare == jid.bare:
            return True
        session = self._sessions.find(jid)
        live = None if session is None else self._live.get(session)
        if session is None or live is None or self._privacy.blocks(session.account.id, asker):
            return False
        if asker in live.directed or asker.to_bare() in live.directed:
            return True
        return session.presence is not None and live.roster is not None and live.roster.shares_with(asker.bare)

    async def may_see(self, account: Account, asker: JID) -> bool:
        """Whether ``asker`` may know that the account exists and when it was there: the account itself and its
        subscribers."""
        if asker.bare == account.jid.bare:
            return True
        if await self._privacy.bars_later(account, asker):
            return False
        return (await self._contacts.roster(account)).shares_with(asker.bare)

    def addressed_by(self, session: Session) -> Collection[JID]:
        """Whom a session showed itself to by name."""
        live = self._live.get(session)
        return () if live is None else live.directed

    def is_addressed(self, account: Account, jid: JID) -> bool:
        """Whether a session of the account shows itself to an address by name, such as to a room it is in."""
        return any(
            shown.bare == jid.bare
            for session in self._sessions.of(account.jid.bare)
            for shown in self.addressed_by(session)
        )

    async def last_seen(self, account: Account) -> LastSeen | None:
        """When the account was last available; None if it never was. The caller checks who may know."""
        found = await self._database.read(activity.last, account.id)
        return LastSeen(*found) if found else None

    def peer_unreachable(self, domain: str) -> None:
        """Another server is out of reach: its contacts are shown unavailable, directed presence to it is void."""
        for listener in self.on_unreachable:
            listener(domain)
        for session, live in tuple(self._live.items()):
            gone = [jid for jid in live.directed if jid.domain == domain]
            live.directed.difference_update(gone)
            for jid in gone:
                session.send(presence(UNAVAILABLE, jid, session.jid))
            for jid in live.roster.subscriptions if live.roster is not None else ():
                if jid.domain == domain:
                    session.send(presence(UNAVAILABLE, jid, session.account.jid))

    def peer_returned(self, domain: str) -> None:
        """Another server is back: ask it for the presence of its contacts (RFC 6121 s4.3.1)."""
        asked: set[str] = set()
        for session, live in tuple(self._live.items()):
            if live.roster is None or session.jid.bare in asked:
                continue
            asked.add(session.jid.bare)
            for jid in live.roster.subscriptions:
                if jid.domain == domain:
                    self._router.route(presence("probe", session.account.jid, jid))

    # --- telling ----------------------------------------------------------------------------------------------------

    def _announce(self, session: Session, shown: Broadcast, roster: Roster) -> Awaitable[None] | None:
        live = self._live.setdefault(session, _Live())
        is_new = live.roster is None
        live.roster = roster
        self._show(session, shown, roster)
        if is_new:
            self._gather(session, roster)
        took_messages, live.takes_messages = live.takes_messages, session.priority is not None and session.priority >= 0
        if live.takes_messages and not took_messages:
            for listener in self.on_initial:
                listener(session)
        for shown_to in self.on_shown:
            shown_to(session, is_new)
        return self._contacts.deliver_requests(session) if is_new and roster.asking() else None

    def _show(self, session: Session, shown: Broadcast, roster: Roster) -> None:
        self._broadcast(roster, shown)
        own = shown.to_recipient(session.account.jid)
        for other in tuple(self._sessions.of(session.jid.bare)):
            if other.presence is not None:
                other.send(own)

    async def _announce_later(self, session: Session, shown: Broadcast) -> None:
        roster = await self._contacts.roster(session.account)
        if session.presence is shown:
            waiting = self._announce(session, shown, roster)
            if waiting is not None:
                await waiting

    def _gather(self, session: Session, roster: Roster) -> None:
        """Give a new session the presence of its account's others and of its contacts: from memory for those here, by
        probe for those elsewhere (s4.3.1)."""
        account = session.account.jid
        for other in tuple(self._sessions.of(account.bare)):
            if other.presence is not None and other is not session:
                session.send(addressed(other.presence, account))
        for jid in roster.subscriptions:
            if self._privacy.blocks(roster.account, jid):
                continue
            if not self._router.is_local(jid.domain):
                self._router.route(presence("probe", account, jid))
                continue
            theirs = self._contacts.held(jid.bare)
            hidden = theirs is not None and self._privacy.blocks(theirs.account, session.jid)
            if theirs is not None and theirs.shares_with(account.bare) and not hidden:
                for other in tuple(self._sessions.of(jid.bare)):
                    if other.presence is not None:
                        session.send(addressed(other.presence, account))
        if account.bare not in self._asked_again:
            # RFC 6121 s3.1.2: a request may have been lost when this server stopped between storing and sending it.
            asking = [item.jid for item in roster.listed() if item.state.is_asking]
            remote = [jid for jid in asking if not self._router.is_local(jid.domain)]
            if remote:
                self._asked_again.add(account.bare)
            for jid in remote:
                self._router.route(presence(SUBSCRIBE, account, jid))

    def _broadcast(self, roster: Roster, shown: Broadcast) -> None:
        sessions, is_local, route = self._sessions.of, self._router.is_local, self._router.route
        blocks, guarded = self._privacy.blocks, self._privacy.is_used
        for jid in roster.subscribers:
            if guarded and blocks(roster.account, jid):
                continue
            if not is_local(jid.domain):
                route(shown.to_recipient(jid))
                continue
            copy = None
            for session in tuple(sessions(jid.bare)):
                if session.presence is not None:
                    if guarded and (blocks(session.account.id, shown.sender) or blocks(roster.account, session.jid)):
                        continue
                    copy = copy or shown.to_recipient(jid)
                    session.send(copy)

    def _granted(self, account: Account, jid: JID) -> None:
        for session in tuple(self._sessions.of(account.jid.bare)):
            if session.presence is not None:
                self._router.route(addressed(session.presence, jid))

    def _revoked(self, account: Account, jid: JID) -> None:
        for session in tuple(self._sessions.of(account.jid.bare)):
            if session.presence is not None:
                self._router.route(presence(UNAVAILABLE, session.jid, jid))

    def _ended(self, session: Session) -> None:
        self.unavailable(session, None)

    def _forget(self, session: Session, gone: JID) -> None:
        live = self._live.get(session)
        if live is not None:
            live.directed.discard(gone)


def addressed(shown: Stanza, to: JID) -> Stanza:
    """A session's presence for one recipient."""
    broadcast = shown if isinstance(shown, Broadcast) else Broadcast(shown.element, shown.sender)
    return broadcast.to_recipient(to)
