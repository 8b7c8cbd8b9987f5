"""Contacts: the roster of an account and its presence subscriptions (RFC 6121 s2, s3).

Every change is committed before anyone hears of it. Then, under the account's lock so that clients see changes in the
order of their versions: the contact's stanza to the account's clients, the roster push, the listeners. What goes to the
contact leaves after the lock is released; a contact of this server is handled at once, so that its clients hear of the
subscription before they see presence.

A stanza that arrives twice changes nothing the second time: other servers repeat what they are not sure of.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from config.settings import ContactSettings
from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import BadRequest, NotAcceptable, NotAllowed, NotFound, ResourceConstraint
from homeserver.domain.rosters import Contact, ContactChange, Roster
from homeserver.domain.sessions import Session
from homeserver.domain.subscriptions import (
    SUBSCRIBE,
    SUBSCRIBED,
    TYPES,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    State,
    inbound,
    outbound,
)
from homeserver.protocol.jid import JID
from homeserver.protocol.presence import presence, readdressed
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import parse_own
from homeserver.services import roster_stanzas
from homeserver.services.accounts import Ending, Revocation
from homeserver.storage import contacts as storage

if TYPE_CHECKING:
    from homeserver.services.accounts import Accounts
    from homeserver.services.admission import Admission
    from homeserver.services.clock import Clock
    from homeserver.services.privacy import Privacy
    from homeserver.services.router import Router
    from homeserver.services.sessions import Sessions
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

_RECENT: Final = 1024
"""Rosters of accounts without a live session that stay in memory."""


class Contacts:
    """Roster and subscriptions of local accounts.

    ``on_change`` hears of every committed change; ``on_granted`` when a contact may see the account's presence from now
    on, after the contact was told; ``on_revoked`` when it no longer may, before the contact is told (RFC 6121 s3.2.2).
    ``admits`` says of a request for an account whether it is granted unasked and returned (XEP-0379).
    """

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        sessions: Sessions,
        router: Router,
        clock: Clock,
        privacy: Privacy,
        admission: Admission,
        *,
        limits: ContactSettings | None = None,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._sessions = sessions
        self._router = router
        self._clock = clock
        self._privacy = privacy
        self._admission = admission
        self._limits = limits or ContactSettings()
        self._rosters: WeakValueDictionary[str, Roster] = WeakValueDictionary()
        self._recent: OrderedDict[str, Roster] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_change: list[Callable[[ContactChange], None]] = []
        self.on_granted: list[Callable[[Account, JID], None]] = []
        self.on_revoked: list[Callable[[Account, JID], None]] = []
        self.admits: Callable[[Account, Stanza], Awaitable[bool]] | None = None

    # --- reading ----------------------------------------------------------------------------------------------------

    def held(self, bare: str) -> Roster | None:
        """The roster if it is in memory: always for an account whose roster someone holds on to."""
        return self._rosters.get(bare)

    async def roster(self, account: Account) -> Roster:
        """The roster of a local account. The object stays current for as long as the caller keeps it."""
        bare = account.jid.bare
        found = self._rosters.get(bare)
        if found is None:
            async with self._lock(bare):
                found = self._rosters.get(bare)
                if found is None:
                    found = await self._database.read(storage.load, account.id)
                    self._rosters[bare] = found
        self._recent[bare] = found
        self._recent.move_to_end(bare)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return found

    async def list(self, account: Account) -> Sequence[Contact]:
        """The items of the account's roster."""
        return (await self.roster(account)).listed()

    async def requests(self, account: Account) -> Sequence[Contact]:
        """Those who wait for the account's answer to a subscription request, in the roster or not."""
        return (await self.roster(account)).asking()

    async def deliver_requests(self, session: Session) -> None:
        """Give a session that became available the requests that wait for an answer (RFC 6121 s3.1.3)."""
        for stanza in await self.asked(session.account):
            session.send(stanza)

    async def asked(self, account: Account) -> Sequence[Stanza]:
        """The requests that wait for the account's answer, as its clients are shown them."""
        kept = [parse_own(text) for _, text in await self._database.read(storage.requests, account.id)]
        return [Stanza(one, JID.parse(one.attrib["from"]), account.jid) for one in kept]

    # --- the roster -------------------------------------------------------------------------------------------------

    async def set(self, account: Account, jid: JID, name: str = "", groups: Sequence[str] = ()) -> Contact:
        """Add a contact to the roster, or give one another name and groups (RFC 6121 s2.3, s2.4).

        Raises `BadRequest` for doubled groups, `NotAcceptable` for a name or group that is empty or too long,
        `NotAllowed` for the own address, `ResourceConstraint` when the roster is full.
        """
        jid = self._not_self(account, jid)
        if len(set(groups)) < len(groups):
            raise BadRequest("a group is named twice")
        if len(name) > self._limits.name or any(not 0 < len(group) <= self._limits.name for group in groups):
            raise NotAcceptable("a name is too long or a group has no name")
        if len(groups) > self._limits.groups:
            raise NotAcceptable("too many groups")

        def decide(before: Contact) -> Contact:
            return replace(before, name=name, groups=tuple(groups), listed=True)

        async with self._lock(account.jid.bare):
            return (await self._change(account, jid, decide)).after

    async def remove(self, account: Account, jid: JID) -> None:
        """Take a contact from the roster and end the subscriptions both ways (RFC 6121 s2.5). Raises `NotFound`."""
        jid = jid.to_bare()

        def decide(before: Contact) -> Contact:
            if not before.listed:
                raise NotFound("no such contact")
            return Contact(jid, version=before.version)

        async with self._lock(account.jid.bare):
            changed = await self._change(account, jid, decide)
        await self._take_leave(account, changed.before)

    async def clear(self, account: Account) -> None:
        """The account is being removed: end all its subscriptions and forget its contacts (XEP-0077 s3.2)."""
        roster = await self.roster(account)
        async with self._lock(account.jid.bare):
            contacts = [*roster.listed(), *(contact for contact in roster.asking() if not contact.listed)]
            await self._database.write(storage.clear, account.id)
            roster.clear()
        for contact in contacts:
            await self._take_leave(account, contact)

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: contacts of an account that was deleted are told in the background."""
        if revocation.ending is Ending.DELETED:
            task = asyncio.get_running_loop().create_task(self._clear_deleted(revocation.account))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def settle(self) -> None:
        """Wait for what `revoked` began."""
        while self._leaving:
            await asyncio.wait(tuple(self._leaving))

    async def _clear_deleted(self, account: Account) -> None:
        try:
            await self.clear(account)
        except Exception:
            log.exception("contacts of a deleted account were not told", account=account.jid.bare)

    # --- subscriptions ----------------------------------------------------------------------------------------------

    async def request(self, account: Account, jid: JID, text: str = "", token: str = "") -> None:
        """Ask to see a contact's presence; ``text`` is shown to it. With ``token``, an invitation of the contact's, its own
        request is granted beforehand (XEP-0379 s3.4). Raises as `outbound`."""
        if token:
            await self.outbound(account, presence(SUBSCRIBED, account.jid, jid.to_bare()))
        await self.outbound(account, roster_stanzas.request(account.jid, jid.to_bare(), text, token))

    async def accept(self, account: Account, jid: JID) -> None:
        """Let someone who asked see the account's presence. Raises `NotFound` where nobody asked."""
        await self._answer(account, jid.to_bare(), SUBSCRIBED)

    async def decline(self, account: Account, jid: JID) -> None:
        """Refuse someone who asked. Raises `NotFound` where nobody asked."""
        await self._answer(account, jid.to_bare(), UNSUBSCRIBED)

    async def outbound(self, account: Account, stanza: Stanza) -> None:
        """A client of the account sent a subscription stanza (RFC 6121 s3.1.2, s3.1.5, s3.2.2, s3.3.2, s3.4.2).

        The contact sees it from and to bare JIDs. Raises `NotAllowed` for the own address, `Blocked` for one that the
        account blocks, `RateLimited` for too many requests, `ResourceConstraint` when the roster is full.
        """
        if stanza.to is None or stanza.type not in TYPES:
            raise BadRequest("a subscription needs a contact")
        jid = self._not_self(account, stanza.to)
        kind = stanza.type
        await self._privacy.check_outgoing(account, jid)
        if kind == SUBSCRIBE:
            self._admission.request(account)
        if self._router.bars(account.jid, jid):
            raise NotAllowed("guests have contacts on this server only")
        told = readdressed(stanza, account.jid, jid)

        def decide(before: Contact) -> Contact:
            decided = outbound(kind, before.state, before.approved)
            listed = before.listed or decided.state not in (State.NONE, State.NONE_IN) or decided.approved
            return replace(before, state=decided.state, approved=decided.approved, listed=listed)

        async with self._lock(account.jid.bare):
            before = (await self._change(account, jid, decide)).before
        shared, shares = before.state.shares, outbound(kind, before.state).state.shares
        if shared and not shares:
            self._tell(self.on_revoked, account, jid)
        if outbound(kind, before.state).route:
            await self._send(told)
        if shares and not shared:
            self._tell(self.on_granted, account, jid)

    async def inbound(self, stanza: Stanza) -> None:
        """A contact's subscription stanza for a local account (RFC 6121 s3.1.3, s3.1.6, s3.2.3, s3.3.3).

        Says nothing to anyone where there is no such account or nothing changes (RFC 6121 s8.5.1); stanzas may come
        again. Returns when the change is committed.
        """
        if stanza.to is None or stanza.type not in TYPES:
            raise BadRequest("a subscription needs an account")
        account = await self._accounts.find(stanza.to.bare)
        jid = stanza.sender.to_bare()
        if account is None or account.state is AccountState.DELETED or jid == account.jid:
            return
        if await self._privacy.bars_later(account, jid):
            return  # XEP-0191 s3.3: no answer and no error
        kind = stanza.type
        told = readdressed(stanza, jid, account.jid)
        granted = kind == SUBSCRIBE and self.admits is not None and await self.admits(account, stanza)
        async with self._lock(account.jid.bare):
            before = await self._receive(account, jid, kind, told, granted)
        if before is None:
            return
        decided = inbound(kind, before.state, before.approved or granted)
        if before.state.shares and not decided.state.shares:
            self._tell(self.on_revoked, account, jid)
        if decided.reply is not None:
            await self._send(presence(decided.reply, account.jid, jid, stanza.id))
        if decided.reply == SUBSCRIBED:
            self._tell(self.on_granted, account, jid)
        if granted and before.state.is_asked:
            await self.outbound(account, presence(SUBSCRIBED, account.jid, jid))
        if granted and not before.state.receives:
            await self.request(account, jid)

    async def befriend(self, one: Account, other: Account) -> None:
        """Subscriptions both ways between two accounts of this server that neither has to ask for (XEP-0401 s5.5).

        Raises `ResourceConstraint` where a roster is full.
        """
        pairs = ((one, other.jid), (other, one.jid))
        for account, jid in pairs:
            async with self._lock(account.jid.bare):
                await self._change(account, jid, lambda before: replace(before, state=State.BOTH, listed=True))
        for account, jid in pairs:
            self._tell(self.on_granted, account, jid)

    async def _receive(self, account: Account, jid: JID, kind: str, told: Stanza, granted: bool) -> Contact | None:
        """Commit an inbound stanza and tell the account's clients; the contact as it was, None if it was refused."""
        roster = self._rosters.get(account.jid.bare)
        if roster is not None:
            known = roster.get(jid.bare) or Contact(jid)
            if inbound(kind, known.state, known.approved or granted).state is known.state:
                return known
        is_remote = not self._router.is_local(jid.domain)
        if kind == SUBSCRIBE and not self._admission.requested(account, jid, is_remote):
            log.warning("subscription request dropped", account=account.jid.bare, contact=jid.bare, reason="too often")
            return None

        def decide(before: Contact) -> Contact:
            decided = inbound(kind, before.state, before.approved or granted)
            return replace(before, state=decided.state, listed=before.listed or decided.state.shares)

        def deliver(before: Contact) -> None:
            if inbound(kind, before.state, before.approved or granted).deliver:
                for session in tuple(self._sessions.of(account.jid.bare)):
                    if (session.presence is not None) if kind == SUBSCRIBE else session.wants_roster:
                        session.send(told)

        try:
            return (await self._change(account, jid, decide, self._kept(told), deliver)).before
        except ResourceConstraint:
            log.warning("subscription request dropped", account=account.jid.bare, contact=jid.bare, reason="too many")
            return None

    async def _answer(self, account: Account, jid: JID, kind: str) -> None:
        contact = (await self.roster(account)).get(jid.bare)
        if contact is None or not contact.state.is_asked:
            raise NotFound("no such request")
        await self.outbound(account, presence(kind, account.jid, jid))

    # --- carrying it out --------------------------------------------------------------------------------------------

    async def _change(
        self,
        account: Account,
        jid: JID,
        decide: Callable[[Contact], Contact],
        request: bytes | None = None,
        deliver: Callable[[Contact], None] | None = None,
    ) -> storage.Changed:
        """Commit one change and make it known here. The caller holds the account's lock."""
        wanted = storage.Wanted(
            account.id, jid, decide, self._clock.microseconds(), request, self._limits.items, self._limits.requests
        )
        changed = await self._database.write(storage.change, wanted)
        roster = self._rosters.get(account.jid.bare)
        if roster is not None and changed.after != changed.before:
            roster.apply(changed.after, changed.forgotten)
            roster.version = changed.version
            if changed.floor != roster.floor:
                roster.trim(changed.floor)
        if deliver is not None:
            deliver(changed.before)
        if changed.is_visible:
            for session in tuple(self._sessions.of(account.jid.bare)):
                if session.wants_roster:
                    session.send(roster_stanzas.push(changed.after, session.jid))
        if changed.after != changed.before:
            event = ContactChange(account, changed.before, changed.after)
            for listener in self.on_change:
                listener(event)
        return changed

    async def _take_leave(self, account: Account, contact: Contact) -> None:
        """Tell a contact that was removed (RFC 6121 s2.5.2)."""
        if contact.state.shares:
            self._tell(self.on_revoked, account, contact.jid)
        if contact.state.receives or contact.state.is_asking:
            await self._send(presence(UNSUBSCRIBE, account.jid, contact.jid))
        if contact.state.shares or contact.state.is_asked:
            await self._send(presence(UNSUBSCRIBED, account.jid, contact.jid))

    async def _send(self, stanza: Stanza) -> None:
        if stanza.to is not None and stanza.to.local and self._router.is_local(stanza.to.domain):
            await self.inbound(stanza)
        else:
            self._router.route(stanza)

    def _kept(self, told: Stanza) -> bytes:
        """The text of a request to be kept; too large a one is kept without its content."""
        text = roster_stanzas.text(told)
        if len(text) <= self._limits.request_bytes:
            return text
        assert told.to is not None
        return roster_stanzas.text(presence(SUBSCRIBE, told.sender, told.to, (told.id or "")[:256] or None))

    def _not_self(self, account: Account, jid: JID) -> JID:
        jid = jid.to_bare()
        if jid == account.jid:
            raise NotAllowed("an account is no contact of its own")
        return jid

    def _tell(self, listeners: Sequence[Callable[[Account, JID], None]], account: Account, jid: JID) -> None:
        for listener in listeners:
            listener(account, jid)

    def _lock(self, bare: str) -> asyncio.Lock:
        found = self._locks.get(bare)
        if found is None:
            found = self._locks[bare] = asyncio.Lock()
        return found
