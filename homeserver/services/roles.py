"""Roles: what an account may do beyond its own affairs, in one place.

An admin may do everything that the HTTP API offers an operator. An operator looks after members and guests: lists
accounts, disables them, makes links that set a password. A guest talks to accounts of this server only, and invites
nobody.
"""

from typing import Final

from homeserver.domain.accounts import Account, AccountState, Role
from homeserver.domain.errors import Forbidden, NotAllowed, NotFound
from homeserver.services.accounts import Accounts, Ending, Revocation

STAFF: Final = (Role.ADMIN, Role.OPERATOR)
_BELOW_OPERATORS: Final = (Role.MEMBER, Role.GUEST)


class Roles:
    """``guests`` are the bare addresses that exchange nothing with other domains; call `start` once to fill it."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.guests: set[str] = set()
        accounts.when_given_role(self._given)
        accounts.when_revoked(self._revoked)

    async def start(self) -> None:
        """Load who is a guest."""
        self.guests.update(await self._accounts.having(Role.GUEST))

    def may_give(self, giver: Account, role: Role) -> bool:
        """Whether an invitation of ``giver`` may make an account with that role."""
        return giver.role is Role.ADMIN or (giver.role is not Role.GUEST and role in _BELOW_OPERATORS)

    def demand_staff(self, asker: Account) -> None:
        """Raises `Forbidden` for who is neither admin nor operator."""
        if asker.role not in STAFF:
            raise Forbidden("only admins and operators may do this")

    def demand_admin(self, asker: Account) -> None:
        """Raises `Forbidden` for who is no admin."""
        if asker.role is not Role.ADMIN:
            raise Forbidden("only admins may do this")

    async def subject(self, asker: Account, bare: str, *, admin_only: bool = False) -> Account:
        """The account that ``asker`` wants to change.

        Raises `Forbidden` where it may not, `NotAllowed` for its own (so that there is always an admin left), `NotFound`.
        """
        self.demand_staff(asker)
        if admin_only:
            self.demand_admin(asker)
        found = await self._accounts.find(bare)
        if found is None or found.state is AccountState.DELETED:
            raise NotFound("no such account")
        if found.id == asker.id:
            raise NotAllowed("ask another admin to change your account")
        if asker.role is not Role.ADMIN and found.role not in _BELOW_OPERATORS:
            raise Forbidden("only admins may change accounts of admins and operators")
        return found

    def _given(self, account: Account) -> None:
        if account.role is Role.GUEST:
            self.guests.add(account.jid.bare)
        else:
            self.guests.discard(account.jid.bare)

    def _revoked(self, revocation: Revocation) -> None:
        if revocation.ending is Ending.DELETED:
            self.guests.discard(revocation.account.jid.bare)
