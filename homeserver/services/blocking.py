"""Blocking and unblocking (XEP-0191): what changes, and what the other side sees of it.

Blocking is polite (XEP-0191 s4): subscriptions stay, the contact sees the account as unavailable. Unblocking shows it
again, and asks for the presence that was missed.
"""

from collections.abc import Callable, Sequence

from homeserver.domain.accounts import Account
from homeserver.domain.errors import BadRequest, NotAcceptable
from homeserver.domain.privacy import Facts
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.presence import Broadcast, presence
from homeserver.services.contacts import Contacts
from homeserver.services.presence import UNAVAILABLE, Presence
from homeserver.services.privacy import Privacy
from homeserver.services.router import Router
from homeserver.services.sessions import Sessions

Changed = Callable[[Account, bool, Sequence[JID]], None]
"""Told of a committed change: the account, whether it blocks or unblocks, the addresses (none: all are unblocked)."""


class Blocking:
    """The block list of an account, as its owner changes it. ``on_change`` hears of every change."""

    def __init__(
        self, privacy: Privacy, contacts: Contacts, presence: Presence, sessions: Sessions, router: Router
    ) -> None:
        self._privacy = privacy
        self._contacts = contacts
        self._presence = presence
        self._sessions = sessions
        self._router = router
        self.on_change: list[Changed] = []

    async def list(self, account: Account) -> Sequence[str]:
        """The addresses an account blocks, in order."""
        return sorted((await self._privacy.load(account)).blocked)

    async def block(self, account: Account, jids: Sequence[JID]) -> None:
        """Block addresses; those who saw the account see it leave (XEP-0191 s3.3).

        Raises `BadRequest` without an address, `NotAcceptable` for the own address, `ResourceConstraint` where the list is
        full.
        """
        if not jids:
            raise BadRequest("an address is needed")
        if any(jid.bare == account.jid.bare for jid in jids):
            raise NotAcceptable("an account cannot block itself")
        before, after = await self._privacy.block(account, jids)
        await self._leave(account, before, after)
        self._tell(account, True, jids)

    async def unblock(self, account: Account, jids: Sequence[JID] | None) -> None:
        """Unblock addresses, all of them for None; those who may see the account see it again (XEP-0191 s3.4, s3.5)."""
        before, after = await self._privacy.unblock(account, jids)
        await self._return(account, before, after)
        self._tell(account, False, jids or ())

    async def _leave(self, account: Account, before: Facts, after: Facts) -> None:
        shown = [session for session in self._sessions.of(account.jid.bare) if session.presence is not None]
        if not shown:
            return
        roster = await self._contacts.roster(account)
        added = _full_addresses(after.blocked - before.blocked)
        subscribers = [jid for jid in roster.subscribers if after.blocks(jid) and not before.blocks(jid)]
        # A contact that is blocked by one of its resources sees the others go on.
        subscribers += [jid for jid in added if roster.shares_with(jid.bare) and not before.blocks(jid)]
        for session in shown:
            named = [
                jid for jid in self._presence.addressed_by(session) if after.blocks(jid) and not before.blocks(jid)
            ]
            for jid in dict.fromkeys([*subscribers, *named]):
                self._router.route(presence(UNAVAILABLE, session.jid, jid))

    async def _return(self, account: Account, before: Facts, after: Facts) -> None:
        shown = [session.presence for session in self._sessions.of(account.jid.bare) if session.presence is not None]
        if not shown:
            return
        roster = await self._contacts.roster(account)
        removed = _full_addresses(before.blocked - after.blocked)
        again = [jid for jid in roster.subscribers if before.blocks(jid) and not after.blocks(jid)]
        again += [jid for jid in removed if roster.shares_with(jid.bare) and not after.blocks(jid)]
        for jid in dict.fromkeys(again):
            for stanza in shown:
                self._router.route(Broadcast(stanza.element, stanza.sender).to_recipient(jid))
        for jid in roster.subscriptions:
            if before.blocks(jid) and not after.blocks(jid):
                self._router.route(presence("probe", account.jid, jid))

    def _tell(self, account: Account, blocks: bool, jids: Sequence[JID]) -> None:
        for listener in self.on_change:
            listener(account, blocks, jids)


def _full_addresses(texts: frozenset[str]) -> list[JID]:
    found = []
    for text in sorted(texts):
        try:
            jid = JID.parse(text)
        except InvalidJID:
            continue  # one that an older version took and this one would not matches nothing
        if jid.local and jid.resource:
            found.append(jid)
    return found
