"""New accounts, and what follows where somebody invited them."""

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import Forbidden, ResourceConstraint
from homeserver.services.accounts import Accounts
from homeserver.services.contacts import Contacts
from homeserver.services.invites import Invites, Offer

log = structlog.get_logger(__name__)


class Registrations:
    """Makes accounts for whoever the policy lets in."""

    def __init__(self, accounts: Accounts, invites: Invites, contacts: Contacts) -> None:
        self._accounts = accounts
        self._invites = invites
        self._contacts = contacts

    @property
    def is_possible(self) -> bool:
        """Whether somebody without an account can get one, with an invitation or without."""
        return self._accounts.registration != "closed"

    @property
    def needs_invitation(self) -> bool:
        """Whether only holders of an invitation get one."""
        return self._accounts.registration == "invite"

    async def offer(self, token: str, domain: str) -> Offer | None:
        """The invitation to an account in ``domain`` that a token stands for, or None."""
        found = await self._invites.find(token)
        fits = found is not None and found.invitation.kind.registers and found.invitation.domain == domain
        return found if fits and self.is_possible else None

    async def register(
        self, username: str, domain: str, password: str, token: str | None = None, shown: Offer | None = None
    ) -> Account:
        """Make an account; an inviter who wished so and the new account are contacts then (XEP-0401 s5.5).

        ``token`` is an invitation; ``shown`` one that `offer` gave before and whose time does not matter any more
        (XEP-0445 s4). Raises what `Accounts.register` raises.
        """
        offer = shown
        if offer is None and token is not None:
            offer = await self.offer(token, domain)
            if offer is None and self.is_possible:
                raise Forbidden("the invitation is not valid")
        if offer is None:
            return await self._accounts.register(username, domain, password)
        # What was shown in time counts as used at the moment it was made: it cannot have expired then.
        valid_at = None if shown is None else offer.invitation.created
        made = await self._accounts.register(username, domain, password, invite=offer.token, valid_at=valid_at)
        if offer.invitation.kind.subscribes and offer.inviter is not None:
            await self._join(made, offer.inviter)
        return made

    async def _join(self, made: Account, inviter: Account) -> None:
        if inviter.state is not AccountState.ACTIVE:
            return
        try:
            await self._contacts.befriend(made, inviter)
        except ResourceConstraint as full:
            log.warning("an invited account is no contact", account=made.jid.bare, reason=full.text)
