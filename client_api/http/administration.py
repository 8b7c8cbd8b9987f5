"""Accounts over JSON, for admins and operators."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from client_api.http.auth import Domain, Id, time_text
from client_api.http.endpoint import address_of, endpoint
from client_api.http.invites import RoleName
from homeserver.domain.accounts import Account, Role
from homeserver.domain.errors import Forbidden, JidMalformed, NotAcceptable, NotAllowed, NotFound
from homeserver.services.accounts import Accounts
from homeserver.services.invites import Invites
from homeserver.services.roles import Roles
from homeserver.services.tokens import Caller

_PAGE: Final = 100
REFUSALS: Final = (JidMalformed, Forbidden, NotAllowed, NotFound)


class UserEntry(Struct):
    """An account; ``state`` is active or disabled."""

    user_id: Id
    jid: str
    role: RoleName
    state: str


class UserPage(Struct):
    """Accounts by address; ``next`` is where the next page begins (``after``), null at the end."""

    users: list[UserEntry]
    next: str | None


class UsersQuery(Struct, forbid_unknown_fields=True):
    """Accounts behind an address, of one domain or all."""

    after: Annotated[str, Meta(max_length=3071)] = ""
    domain: Domain | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = _PAGE


class RoleInfo(Struct, forbid_unknown_fields=True):
    """What the account may do: a guest talks to accounts of this server only."""

    role: RoleName


class ResetGrant(Struct):
    """A page on which the holder of the account sets a new password. It is shown this once."""

    url: str
    expires_at: str


class AdministrationEndpoints:
    """What staff may do about other accounts; never about the own one."""

    def __init__(self, accounts: Accounts, roles: Roles, invites: Invites) -> None:
        self._accounts = accounts
        self._roles = roles
        self._invites = invites

    @endpoint("GET", "/v1/admin/users", query=UsersQuery, returns=UserPage, errors=(Forbidden,))
    async def list_users(self, caller: Caller, query: UsersQuery) -> UserPage:
        """All accounts."""
        self._roles.demand_staff(caller.account)
        domain = None if query.domain is None else query.domain.lower()
        found = await self._accounts.listing(domain, query.after, query.limit)
        return UserPage(list(map(_entry, found)), found[-1].jid.bare if len(found) == query.limit else None)

    @endpoint("GET", "/v1/admin/users/{jid}/role", returns=RoleInfo, errors=REFUSALS)
    async def show_role(self, caller: Caller, jid: str) -> RoleInfo:
        """The role of another account."""
        found = await self._roles.subject(caller.account, address_of(jid).bare, admin_only=True)
        return RoleInfo(found.role.value)

    @endpoint("PUT", "/v1/admin/users/{jid}/role", body=RoleInfo, returns=RoleInfo, errors=REFUSALS)
    async def change_role(self, caller: Caller, jid: str, body: RoleInfo) -> RoleInfo:
        """Give another account a role; for admins."""
        found = await self._roles.subject(caller.account, address_of(jid).bare, admin_only=True)
        changed = await self._accounts.set_role(found.jid.bare, Role(body.role))
        return RoleInfo(changed.role.value)

    @endpoint("POST", "/v1/admin/users/{jid}/disable", returns=UserEntry, errors=REFUSALS)
    async def disable_user(self, caller: Caller, jid: str) -> UserEntry:
        """Keep an account from logging in and end its sessions."""
        found = await self._roles.subject(caller.account, address_of(jid).bare)
        return _entry(await self._accounts.disable(found.jid.bare))

    @endpoint("POST", "/v1/admin/users/{jid}/enable", returns=UserEntry, errors=REFUSALS)
    async def enable_user(self, caller: Caller, jid: str) -> UserEntry:
        """Let a disabled account log in again."""
        found = await self._roles.subject(caller.account, address_of(jid).bare)
        return _entry(await self._accounts.enable(found.jid.bare))

    @endpoint("DELETE", "/v1/admin/users/{jid}", status=204, errors=REFUSALS)
    async def delete_user(self, caller: Caller, jid: str) -> None:
        """End an account for good; for admins. Its name stays taken."""
        found = await self._roles.subject(caller.account, address_of(jid).bare, admin_only=True)
        await self._accounts.delete(found.jid.bare)

    @endpoint(
        "POST",
        "/v1/admin/users/{jid}/password-reset",
        returns=ResetGrant,
        status=201,
        errors=(*REFUSALS, NotAcceptable),
    )
    async def reset_password(self, caller: Caller, jid: str) -> ResetGrant:
        """A link with which the holder of an account sets a new password."""
        made = await self._invites.create_reset(caller.account, address_of(jid).bare)
        return ResetGrant(made.url, time_text(made.expires))


def _entry(found: Account) -> UserEntry:
    return UserEntry(found.id, found.jid.bare, found.role.value, found.state.name.lower())
