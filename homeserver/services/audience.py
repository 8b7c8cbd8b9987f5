"""Who wants to be notified: the clients that are there and the nodes they are interested in (XEP-0163 s4.2, XEP-0060 s9.2).

Clients of this server are known by their sessions, those of contacts elsewhere by the presence they show to an account
here. Both say what they want by their entity capabilities.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.protocol.caps import Advertised, advertised

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.domain.rosters import Roster
    from homeserver.domain.sessions import Session
    from homeserver.protocol.jid import JID
    from homeserver.protocol.stanza import Stanza
    from homeserver.services.contacts import Contacts
    from homeserver.services.entity_caps import EntityCaps, Interests
    from homeserver.services.presence import Presence
    from homeserver.services.router import Router

log = structlog.get_logger(__name__)

MAX_ELSEWHERE: Final = 100_000
"""Clients of other servers that are remembered; the one that showed itself longest ago goes first."""
MAX_RESOURCES: Final = 32
"""The same for one contact."""
MAX_COMING: Final = 1000
"""Presences that wait for a roster."""
NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(slots=True, eq=False)
class _Here:
    """What a session advertises, and what that means; ``told`` are the nodes whose newest items it was given."""

    said: Advertised
    interests: Interests = NOTHING
    told: Interests = NOTHING


@dataclass(slots=True, eq=False)
class Elsewhere:
    """A client of another server. ``shown_to`` are the accounts here that see it, by bare JID, with the nodes whose newest
    items it was given."""

    jid: JID
    said: Advertised
    interests: Interests = NOTHING
    is_asked: bool = False
    is_known: bool = False
    shown_to: dict[str, tuple[Account, Interests]] = field(default_factory=dict)


class Audience:
    """Follows presence.

    ``on_interest`` is called with a session and the nodes it has become interested in, ``on_interest_elsewhere`` with an
    account here, a contact's client and the nodes of which that has not been told.
    """

    def __init__(self, presence: Presence, contacts: Contacts, router: Router, caps: EntityCaps) -> None:
        self._contacts = contacts
        self._router = router
        self._caps = caps
        self._here: dict[Session, _Here] = {}
        self._elsewhere: OrderedDict[str, Elsewhere] = OrderedDict()
        self._resources: dict[str, dict[str, Elsewhere]] = {}
        self._coming: dict[tuple[str, str], Advertised] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_interest: list[Callable[[Session, Interests], None]] = []
        self.on_interest_elsewhere: list[Callable[[Account, Elsewhere, Interests], None]] = []
        presence.on_shown.append(self._shown)
        presence.on_gone.append(self._gone)
        presence.on_contact.append(self._contact)
        presence.on_unreachable.append(self._unreachable)

    def interests(self, session: Session) -> Interests:
        """The nodes a session wants to be notified of."""
        found = self._here.get(session)
        return NOTHING if found is None else found.interests

    def elsewhere(self, contact: str, account: str, node: str) -> Iterator[JID]:
        """Full JIDs of a remote contact that are interested in a node and see the account (both bare)."""
        for client in self._resources.get(contact, {}).values():
            if node in client.interests and account in client.shown_to:
                yield client.jid

    def granted(self, account: Account, contact: str) -> None:
        """A contact elsewhere may see the account from now on: its clients are told what they have not been told."""
        for client in tuple(self._resources.get(contact, {}).values()):
            if account.jid.bare in client.shown_to:
                client.shown_to[account.jid.bare] = (account, NOTHING)
                self._tell_elsewhere(client)

    def __len__(self) -> int:
        return len(self._here) + len(self._elsewhere)

    # --- sessions here ----------------------------------------------------------------------------------------------

    def _shown(self, session: Session, _is_first: bool) -> None:
        said = None if session.presence is None else advertised(session.presence.element)
        known = self._here.get(session)
        if said is None:
            self._here.pop(session, None)
        elif known is None or known.said != said:
            told = NOTHING if known is None else known.told
            entry = self._here[session] = _Here(said, NOTHING if known is None else known.interests, told)
            self._caps.learn(session.account.jid, session.jid, said, partial(self._learnt, session, entry))

    def _learnt(self, session: Session, entry: _Here, interests: Interests) -> None:
        if self._here.get(session) is not entry:
            return
        entry.interests = interests
        new = interests - entry.told
        entry.told |= interests
        if new:
            for listener in self.on_interest:
                listener(session, new)

    def _gone(self, session: Session) -> None:
        self._here.pop(session, None)

    # --- clients elsewhere ------------------------------------------------------------------------------------------

    def _contact(self, account: Account, stanza: Stanza) -> None:
        jid = stanza.sender
        if self._router.is_local(jid.domain) or not jid.resource or (stanza.to is not None and stanza.to.resource):
            return
        said = None if stanza.type else advertised(stanza.element)
        roster = self._contacts.held(account.jid.bare)
        self._coming.pop((account.jid.bare, str(jid)), None)
        if said is None:
            self._left(account, jid)
        elif roster is not None:
            self._came(account, roster, jid, said)
        elif len(self._coming) < MAX_COMING:
            self._coming[account.jid.bare, str(jid)] = said
            task = asyncio.get_running_loop().create_task(self._comes(account, jid, said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _comes(self, account: Account, jid: JID, said: Advertised) -> None:
        """The same for an account whose roster is not in memory."""
        key = (account.jid.bare, str(jid))
        try:
            roster = await self._contacts.roster(account)
            if self._coming.get(key) is said:
                self._came(account, roster, jid, said)
        except Exception:
            log.exception("a contact's client is not notified", account=account.jid.bare)
        finally:
            if self._coming.get(key) is said:
                del self._coming[key]

    def _came(self, account: Account, roster: Roster, jid: JID, said: Advertised) -> None:
        if not (roster.shares_with(jid.bare) or roster.receives_from(jid.bare)):
            self._left(account, jid)
            return
        client = self._elsewhere.get(str(jid))
        if client is None:
            client = self._add(jid, said)
            if client is None:
                return
        self._elsewhere.move_to_end(str(jid))
        client.shown_to.setdefault(account.jid.bare, (account, NOTHING))
        if client.said != said:
            client.said, client.is_asked, client.is_known = said, False, False
        if client.is_known:
            self._tell_elsewhere(client)
        elif not client.is_asked:
            client.is_asked = True
            self._caps.learn(account.jid, jid, said, partial(self._learnt_elsewhere, client, said))

    async def settle(self) -> None:
        """Wait for what is being looked up."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _add(self, jid: JID, said: Advertised) -> Elsewhere | None:
        resources = self._resources.setdefault(jid.bare, {})
        if len(resources) >= MAX_RESOURCES:
            return None
        if len(self._elsewhere) >= MAX_ELSEWHERE:
            self._forget(next(iter(self._elsewhere.values())))
            resources = self._resources.setdefault(jid.bare, {})
        client = resources[jid.resource] = self._elsewhere[str(jid)] = Elsewhere(jid, said)
        return client

    def _learnt_elsewhere(self, client: Elsewhere, said: Advertised, interests: Interests) -> None:
        if client.said == said and self._elsewhere.get(str(client.jid)) is client:
            client.interests, client.is_known = interests, True
            self._tell_elsewhere(client)

    def _tell_elsewhere(self, client: Elsewhere) -> None:
        for bare, (account, told) in tuple(client.shown_to.items()):
            new = client.interests - told
            client.shown_to[bare] = (account, told | client.interests)
            if new:
                for listener in self.on_interest_elsewhere:
                    listener(account, client, new)

    def _left(self, account: Account, jid: JID) -> None:
        client = self._elsewhere.get(str(jid))
        if client is not None:
            client.shown_to.pop(account.jid.bare, None)
            if not client.shown_to:
                self._forget(client)

    def _forget(self, client: Elsewhere) -> None:
        del self._elsewhere[str(client.jid)]
        resources = self._resources[client.jid.bare]
        del resources[client.jid.resource]
        if not resources:
            del self._resources[client.jid.bare]

    def _unreachable(self, domain: str) -> None:
        """Another server is away. When it is back it is asked for presence, and its clients are told what they missed."""
        for client in [found for found in self._elsewhere.values() if found.jid.domain == domain]:
            self._forget(client)
