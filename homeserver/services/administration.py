"""What staff may see and do about accounts and sessions (XEP-0133), whatever the face.

Operators look after members and guests; only admins reach accounts of staff, delete for good, read contact lists and give
roles. Nobody changes the own account, so there is always an admin left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from homeserver.domain.accounts import Account, AccountState, Role
from homeserver.domain.errors import NotAcceptable, NotFound
from homeserver.protocol.presence import show_of

if TYPE_CHECKING:
    from homeserver.domain.rosters import Contact
    from homeserver.domain.sessions import Session
    from homeserver.protocol.jid import JID
    from homeserver.services.accounts import Accounts
    from homeserver.services.contacts import Contacts
    from homeserver.services.logins import Logins
    from homeserver.services.roles import Roles
    from homeserver.services.sessions import Sessions

log = structlog.get_logger(__name__)

MOST_AT_ONCE: Final = 200
"""Accounts that one request may change."""
_AWAY: Final = ("away", "xa")


@dataclass(frozen=True, slots=True)
class SessionState:
    """One session. ``jid`` is full; ``connected`` is false while it waits to be resumed, ``available`` whether it showed
    presence; ``show`` and ``priority`` are of that (RFC 6121 s4.7.2), "" and None without."""

    jid: JID
    connected: bool
    available: bool
    show: str
    priority: int | None


@dataclass(frozen=True, slots=True)
class Attendance:
    """Bare addresses of accounts with a session, by address: those with a connected session that shows presence and is
    not away are active, the others idle."""

    active: list[str]
    idle: list[str]


class Administration:
    """Every method checks whether ``asker`` may; raises `Forbidden`, `NotAllowed` (own account), `NotFound`."""

    def __init__(
        self, accounts: Accounts, roles: Roles, sessions: Sessions, contacts: Contacts, logins: Logins
    ) -> None:
        self._accounts = accounts
        self._roles = roles
        self._sessions = sessions
        self._contacts = contacts
        self._logins = logins

    # --- accounts ---------------------------------------------------------------------------------------------------

    async def add(self, asker: Account, jid: JID, password: str) -> Account:
        """Make an account, whatever the policy for others is. Raises `NotAcceptable`, `Conflict`."""
        self._roles.demand_staff(asker)
        made = await self._accounts.register(jid.local, jid.domain, password, admin=True)
        _log("account made by staff", asker, [made])
        return made

    async def subjects(self, asker: Account, jids: Sequence[JID], *, admin_only: bool = False) -> list[Account]:
        """The accounts that are to be changed, all or none. Raises `NotAcceptable` for too many."""
        if len(jids) > MOST_AT_ONCE:
            raise NotAcceptable(f"more than {MOST_AT_ONCE} accounts")
        bare = dict.fromkeys(jid.bare for jid in jids)
        return [await self._roles.subject(asker, one, admin_only=admin_only) for one in bare]

    async def disable(self, asker: Account, jids: Sequence[JID]) -> list[Account]:
        """Keep accounts from logging in and end their sessions."""
        found = await self.subjects(asker, jids)
        _log("accounts disabled by staff", asker, found)
        return [await self._accounts.disable(one.jid.bare) for one in found]

    async def enable(self, asker: Account, jids: Sequence[JID]) -> list[Account]:
        """Let disabled accounts log in again."""
        found = await self.subjects(asker, jids)
        _log("accounts enabled by staff", asker, found)
        return [await self._accounts.enable(one.jid.bare) for one in found]

    async def delete(self, asker: Account, jids: Sequence[JID]) -> list[Account]:
        """End accounts for good; for admins."""
        found = await self.subjects(asker, jids, admin_only=True)
        _log("accounts deleted by staff", asker, found)
        return [await self._accounts.delete(one.jid.bare) for one in found]

    async def change_password(self, asker: Account, jid: JID, password: str) -> None:
        """Set a password; all devices lose their tokens. Raises `NotAcceptable`."""
        [found] = await self.subjects(asker, [jid])
        await self._accounts.change_password(found, password)
        _log("password changed by staff", asker, [found])

    async def roster(self, asker: Account, jid: JID) -> Sequence[Contact]:
        """The contacts of an account; for admins."""
        [found] = await self.subjects(asker, [jid], admin_only=True)
        _log("roster read by staff", asker, [found])
        return (await self._contacts.roster(found)).listed()

    async def contact_count(self, asker: Account, jid: JID) -> int:
        """How many contacts an account has."""
        [found] = await self.subjects(asker, [jid])
        return len((await self._contacts.roster(found)).listed())

    async def last_logins(self, asker: Account, jids: Sequence[JID]) -> dict[str, float | None]:
        """By bare address: when the accounts last logged in, seconds since the epoch; None for never."""
        found = await self.subjects(asker, jids)
        times = await self._logins.last(found)
        return {one.jid.bare: times.get(one.id) for one in found}

    # --- admins -----------------------------------------------------------------------------------------------------

    async def admins(self, domain: str) -> list[str]:
        """The bare addresses of a domain's admins."""
        return sorted(one for one in await self._accounts.having(Role.ADMIN) if one.partition("@")[2] == domain)

    async def set_admins(self, asker: Account, domain: str, jids: Sequence[JID]) -> None:
        """Make these and no other accounts of a domain its admins; who is one no more becomes a member.

        The asker stays one: left out, it is `NotAllowed`.
        """
        before = set(await self.admins(domain))
        wanted = {jid.bare: jid for jid in jids}
        changed = [jid for bare, jid in wanted.items() if bare not in before]
        gone = [bare for bare in before if bare not in wanted]
        made = await self.subjects(asker, changed, admin_only=True)
        ended = [await self._roles.subject(asker, bare, admin_only=True) for bare in gone]
        for one in made:
            await self._accounts.set_role(one.jid.bare, Role.ADMIN)
        for one in ended:
            await self._accounts.set_role(one.jid.bare, Role.MEMBER)
        _log("admins changed", asker, [*made, *ended])

    # --- numbers and lists ------------------------------------------------------------------------------------------

    async def count(self, asker: Account, domain: str, state: AccountState | None = None) -> int:
        """How many accounts a domain has, deleted ones left out, or how many in one state."""
        self._roles.demand_staff(asker)
        return await self._accounts.count(domain, state)

    async def listing(self, asker: Account, domain: str, limit: int, state: AccountState | None = None) -> list[str]:
        """The first addresses of a domain's accounts."""
        self._roles.demand_staff(asker)
        return [one.jid.bare for one in await self._accounts.listing(domain, "", limit, state)]

    def attendance(self, asker: Account, domain: str) -> Attendance:
        """Who of a domain has a session."""
        self._roles.demand_staff(asker)
        active: dict[str, bool] = {}
        for session in self._sessions.everyone():
            if session.jid.domain == domain:
                bare = session.jid.bare
                active[bare] = active.get(bare, False) or _is_active(session)
        return Attendance(
            sorted(bare for bare, is_active in active.items() if is_active),
            sorted(bare for bare, is_active in active.items() if not is_active),
        )

    # --- sessions ---------------------------------------------------------------------------------------------------

    def sessions(self, asker: Account, domain: str | None, after: str, limit: int) -> list[SessionState]:
        """Sessions by full address, from behind ``after``; of one domain or all."""
        self._roles.demand_staff(asker)
        found = [one for one in self._sessions.everyone() if domain is None or one.jid.domain == domain]
        found = sorted((one for one in found if str(one.jid) > after), key=lambda one: str(one.jid))
        return [_state(one) for one in found[:limit]]

    async def sessions_of(self, asker: Account, jid: JID) -> list[SessionState]:
        """The sessions of one account."""
        [found] = await self.subjects(asker, [jid])
        return [_state(one) for one in self._sessions.of(found.jid.bare)]

    async def end_sessions(self, asker: Account, jids: Sequence[JID]) -> int:
        """End the sessions of accounts, or those with a resource; returns how many. It may log in again.

        Raises `NotFound` where a full address has no session.
        """
        await self.subjects(asker, jids)
        ending: dict[str, Session] = {}
        for jid in jids:
            found = [self._sessions.find(jid)] if jid.resource else self._sessions.of(jid.bare)
            for one in found:
                if one is None:
                    raise NotFound("there is no such session")
                ending[str(one.jid)] = one
        for session in ending.values():
            session.disconnect("policy-violation", "The session was ended by an administrator")
        log.info("sessions ended by staff", by=asker.jid.bare, sessions=sorted(ending))
        return len(ending)


def _is_active(session: Session) -> bool:
    return session.is_connected() and session.presence is not None and _show(session) not in _AWAY


def _show(session: Session) -> str:
    return "" if session.presence is None else show_of(session.presence.element)


def _state(session: Session) -> SessionState:
    return SessionState(
        session.jid, session.is_connected(), session.presence is not None, _show(session), session.priority
    )


def _log(event: str, asker: Account, accounts: Sequence[Account]) -> None:
    log.info(event, by=asker.jid.bare, accounts=[one.jid.bare for one in accounts])
