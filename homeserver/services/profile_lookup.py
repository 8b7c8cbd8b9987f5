"""Profiles of anybody: of accounts here, and of those elsewhere as their server answers for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homeserver.domain.accounts import AccountState
from homeserver.domain.errors import DomainError, NotFound, RemoteServerTimeout
from homeserver.protocol import namespaces as ns
from homeserver.protocol import vcards
from homeserver.protocol.xml import element, text_of
from homeserver.services.avatars import decoded
from homeserver.services.profiles import Profile, profile_of

if TYPE_CHECKING:
    from homeserver.domain.accounts import Account
    from homeserver.protocol.jid import JID
    from homeserver.services.accounts import Accounts
    from homeserver.services.avatars import Avatar
    from homeserver.services.enquiries import Enquiries
    from homeserver.services.privacy import Privacy
    from homeserver.services.profiles import Profiles
    from homeserver.services.router import Router


class ProfileLookup:
    """Asks for an account what another one shows it."""

    def __init__(
        self, profiles: Profiles, accounts: Accounts, privacy: Privacy, router: Router, enquiries: Enquiries
    ) -> None:
        self._profiles = profiles
        self._accounts = accounts
        self._privacy = privacy
        self._router = router
        self._enquiries = enquiries

    async def profile(self, asker: Account, jid: JID) -> Profile:
        """What ``jid`` shows. Raises `NotFound` where that is nothing, for whatever reason."""
        found = await (self._here(asker, jid) if self._router.is_local(jid.domain) else self._elsewhere(asker, jid))
        if found is None or not (found.name or found.bio or found.avatar or jid.bare == asker.jid.bare):
            raise NotFound("nothing is shown of this address")
        return found

    async def _here(self, asker: Account, jid: JID) -> Profile | None:
        account = await self._accounts.find(jid.bare) if jid.local else None
        if account is None or account.state is AccountState.DELETED:
            return None
        if await self._privacy.bars_later(account, asker.jid):
            return None
        return await self._profiles.profile(account, asker.jid)

    async def _elsewhere(self, asker: Account, jid: JID) -> Profile | None:
        if self._router.bars(asker.jid, jid):
            return None
        try:
            vcard = await self._enquiries.ask(asker.jid, jid.to_bare(), element(ns.VCARD, "vCard"))
        except RemoteServerTimeout:
            return None
        if vcard is None or vcard.tag != f"{{{ns.VCARD}}}vCard":
            return None
        photo = vcards.photo_of(vcard)
        avatar = None if photo is None else self._picture(text_of(photo, ns.VCARD, "BINVAL") or "")
        return profile_of(vcard, avatar)

    def _picture(self, encoded: str) -> Avatar | None:
        """A picture as another server gives it, within the bounds that hold here."""
        try:
            return self._profiles.avatars.checked(decoded(encoded))
        except DomainError:
            return None
