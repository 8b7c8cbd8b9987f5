"""Accounts: made, found, proven, changed and ended."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from homeserver.domain.accounts import Account, AccountState, Device, Role, Verifier
from homeserver.domain.errors import (
    NotAcceptable,
    NotAuthorized,
    NotFound,
    RegistrationClosed,
    ResourceConstraint,
)
from homeserver.services.names import new_address
from homeserver.services.passwords import PASSWORD_MECHANISM, decoy, derive_families, matches, prepare
from homeserver.storage import accounts as storage
from homeserver.storage import devices as device_storage

if TYPE_CHECKING:
    from config.settings import AccountSettings
    from homeserver.services.clock import Clock
    from homeserver.storage.database import Database

T = TypeVar("T")
log = structlog.get_logger(__name__)

CACHED_ACCOUNTS: Final = 50_000
CACHED_ABSENT: Final = 10_000
MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 1_000_000
MAX_WAITING: Final = 2_000
"""Key derivations that may wait for a thread; more logins than that are refused for the moment."""


class Unknown(Enum):
    """What `Accounts.peek` says when it would have to ask the store."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


class Ending(Enum):
    """Why what an account was granted is void."""

    DISABLED = "disabled"
    DELETED = "deleted"
    PASSWORD = "password"  # noqa: S105 the name of a reason


@dataclass(frozen=True, slots=True)
class Revocation:
    """``devices`` have lost their tokens; after DISABLED and DELETED all sessions of ``account`` must end too."""

    account: Account
    ending: Ending
    devices: tuple[str, ...]


class Accounts:
    """Call `start` once before anything else. Cached: this server's accounts, and names known not to exist."""

    def __init__(self, database: Database, settings: AccountSettings, clock: Clock, domains: Sequence[str]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._domains = tuple(domains)
        self._found: OrderedDict[str, Account] = OrderedDict()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._by_id: dict[int, Account] = {}
        self._salt_key = b""
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="passwords")
        self._waiting = 0
        self._listeners: list[Callable[[Revocation], None]] = []
        self._role_listeners: list[Callable[[Account], None]] = []

    def reload(self, settings: AccountSettings) -> None:
        """Take over other rules for what comes from now on."""
        self._settings = settings

    async def start(self) -> None:
        """Load what the answers for unknown names are made from."""
        proposed = secrets.token_bytes(32)
        self._salt_key = await self._database.write(storage.ensure_secret, "salt", proposed, self._clock.now())

    def close(self) -> None:
        """Stop the threads that derive keys."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def when_revoked(self, listener: Callable[[Revocation], None]) -> None:
        """Have ``listener`` called on the loop after an account was disabled, deleted or got a new password."""
        self._listeners.append(listener)

    def when_given_role(self, listener: Callable[[Account], None]) -> None:
        """Have ``listener`` called on the loop with every account that is made or gets another role."""
        self._role_listeners.append(listener)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains served; the first is used where a client names none."""
        return self._domains

    @property
    def registration(self) -> str:
        """The policy: ``closed``, ``invite`` or ``open``."""
        return self._settings.registration

    # --- finding ----------------------------------------------------------------------------------------------------

    def peek(self, bare: str) -> Account | Unknown | None:
        """What is known without waiting: the account in any state, None when there is none, or `UNKNOWN`."""
        found = self._found.get(bare)
        if found is not None:
            self._found.move_to_end(bare)
            return found
        return None if bare in self._absent else UNKNOWN

    async def find(self, bare: str) -> Account | None:
        """The account with that bare address, in any state (also DELETED), or None."""
        known = self.peek(bare)
        if not isinstance(known, Unknown):
            return known
        found = await self._database.read(storage.by_jid, bare)
        # Another task may have made or changed the account while this one waited: what it cached is newer.
        known = self.peek(bare)
        if not isinstance(known, Unknown):
            return known
        if found is None:
            self._absent[bare] = None
            if len(self._absent) > CACHED_ABSENT:
                self._absent.popitem(last=False)
        else:
            self._remember(found)
        return found

    async def active(self, bare: str) -> Account | None:
        """The account if it may be used, else None."""
        found = await self.find(bare)
        return found if found is not None and found.state is AccountState.ACTIVE else None

    def peek_id(self, id_: int) -> Account | None:
        """The account with that number if it is in memory."""
        return self._by_id.get(id_)

    async def by_id(self, id_: int) -> Account | None:
        """The account with that number, in any state, or None."""
        found = self._by_id.get(id_)
        if found is None:
            found = await self._database.read(storage.by_id, id_)
            if found is not None:
                self._remember(found)
        return found

    async def by_ids(self, ids: Sequence[int]) -> dict[int, Account]:
        """The accounts with those numbers; unknown numbers are left out."""
        missing = [id_ for id_ in ids if id_ not in self._by_id]
        if missing:
            for found in await self._database.read(storage.by_ids, missing):
                self._remember(found)
        return {id_: self._by_id[id_] for id_ in ids if id_ in self._by_id}

    async def having(self, role: Role) -> list[str]:
        """The bare addresses of all accounts with a role that are not deleted."""
        return await self._database.read(storage.having, role)

    async def search(self, domain: str, beginning: str, limit: int) -> list[Account]:
        """Active accounts of a domain, guests left out, whose localpart starts with a text, by address."""
        return await self._database.read(storage.search, domain, beginning, limit)

    async def listing(
        self, domain: str | None = None, after: str = "", limit: int = 100, state: AccountState | None = None
    ) -> list[Account]:
        """Accounts that are not deleted, by address, from behind ``after``; all of them, or those in one state."""
        return await self._database.read(storage.listing, domain, after, limit, state)

    async def count(self, domain: str, state: AccountState | None = None) -> int:
        """How many accounts a domain has, deleted ones left out, or how many in one state."""
        return await self._database.read(storage.count, domain, state)

    async def devices(self, bare: str) -> list[Device]:
        """The devices of an account, the one seen last first. Raises `NotFound`."""
        return await self._database.read(device_storage.listing, (await self._existing(bare)).id)

    # --- making -----------------------------------------------------------------------------------------------------

    async def register(
        self,
        username: str,
        domain: str,
        password: str,
        *,
        invite: str | None = None,
        valid_at: float | None = None,
        admin: bool = False,
        role: Role = Role.MEMBER,
    ) -> Account:
        """Make an account as the policy allows; ``admin`` (the operator) may whatever the policy.

        ``invite`` is a token, which gives the role; it must have been valid at ``valid_at``, now without. Raises
        `RegistrationClosed`, `Forbidden` (invitation), `NotAcceptable` (name, password), `NotFound` (a domain not
        served), `Conflict` (taken, also by a deleted account, or kept for somebody).
        """
        policy = self._settings.registration
        if not admin and policy == "closed":
            raise RegistrationClosed("accounts are made by the operator of this server")
        if not admin and policy == "invite" and invite is None:
            raise RegistrationClosed("an invitation is needed")
        if domain not in self._domains:
            raise NotFound("this domain is not served here")
        jid = new_address(username, domain)
        digest = None if invite is None else token_digest(invite)
        verifiers = await self._derive_all(self._new_password(password))
        now = self._clock.now()
        new = storage.NewAccount(jid, role, verifiers, now, digest, now if valid_at is None else valid_at)
        made = await self._database.write(storage.create, new)
        self._remember(made)
        log.info("account made", account=made.jid.bare, by="operator" if admin else policy)
        self._announce(made)
        return made

    # --- proving ----------------------------------------------------------------------------------------------------

    async def verifier(self, bare: str, mechanism: str) -> Verifier:
        """What SCRAM ``mechanism`` (without -PLUS) checks a proof against.

        Where no such account may log in, a verifier that no proof fits, the same for a name every time: the challenge
        tells nothing about who exists (RFC 5802 s9).
        """
        found = await self._database.read(storage.verifier, bare, mechanism)
        return found or decoy(self._salt_key, bare, mechanism, self._rounds())

    async def check_password(self, bare: str, password: str) -> Account:
        """The account whose password this is; an unknown one costs the same time. Raises `NotAuthorized`."""
        stored = await self.verifier(bare, PASSWORD_MECHANISM)
        try:
            prepared = prepare(password, self._settings.password_max)
            right = await self._in_thread(matches, stored, prepared)
        except NotAcceptable:
            right = False
        found = await self.active(bare) if right else None
        if found is None:
            raise NotAuthorized("wrong name or password")
        return found

    # --- changing ---------------------------------------------------------------------------------------------------

    async def change_password(self, account: Account, password: str, keep_device: str | None = None) -> None:
        """Set a new password; every device except ``keep_device`` loses its tokens, XMPP clients those they log in with.

        Raises `NotAcceptable`.
        """
        verifiers = await self._derive_all(self._new_password(password))
        dropped = await self._database.write(storage.change_password, account.id, verifiers, keep_device)
        log.info("password changed", account=account.jid.bare)
        self._tell(Revocation(account, Ending.PASSWORD, tuple(dropped)))

    async def remove(self, account: Account) -> None:
        """Its owner removes the account: nobody logs in to it from now on, and after the grace period it is deleted.

        Until then its name, contacts and messages are kept, and the operator may `restore` it.
        """
        if self._settings.deletion_grace <= 0:
            await self.delete(account.jid.bare)
        else:
            ends = self._clock.now() + self._settings.deletion_grace
            await self._set_state(account.jid.bare, AccountState.DISABLED, ends)

    async def restore(self, bare: str) -> Account:
        """Undo a removal in its grace period. Raises `NotFound`."""
        found = await self._existing(bare)
        if found.ends is None:
            raise NotFound("this account was not removed by its owner")
        return await self._set_state(bare, AccountState.ACTIVE)

    async def ended(self, limit: int) -> list[Account]:
        """Removed accounts whose grace period is over, and deleted ones that were not `purged`."""
        return await self._database.read(storage.ended, self._clock.now(), limit)

    async def purged(self, account: Account) -> None:
        """All that a deleted account left is gone."""
        await self._database.write(storage.purged, account.id)

    async def reset_password(self, token: str, password: str) -> Account:
        """Set the password of the account that a reset link is for; all its devices lose their tokens.

        Raises `Forbidden` where the link is not valid, `NotAcceptable`.
        """
        verifiers = await self._derive_all(self._new_password(password))
        id_, dropped = await self._database.write(
            storage.reset_password, token_digest(token), self._clock.now(), verifiers
        )
        account = await self.by_id(id_)
        assert account is not None
        log.info("password reset", account=account.jid.bare)
        self._tell(Revocation(account, Ending.PASSWORD, tuple(dropped)))
        return account

    async def disable(self, bare: str) -> Account:
        """Stop an account from logging in and end its sessions. Raises `NotFound`."""
        return await self._set_state(bare, AccountState.DISABLED)

    async def enable(self, bare: str) -> Account:
        """Let a disabled account log in again. Raises `NotFound`."""
        return await self._set_state(bare, AccountState.ACTIVE)

    async def delete(self, bare: str) -> Account:
        """End an account for good; its name stays taken. Raises `NotFound`."""
        return await self._set_state(bare, AccountState.DELETED, self._clock.now())

    async def set_role(self, bare: str, role: Role) -> Account:
        """Give an account another role. Raises `NotFound`."""
        found = await self._existing(bare)
        await self._database.write(storage.set_role, found.id, role)
        changed = Account(found.id, found.jid, found.state, role, found.ends)
        self._remember(changed)
        log.info("account role changed", account=bare, role=role.value)
        self._announce(changed)
        return changed

    async def _set_state(self, bare: str, state: AccountState, ends: float | None = None) -> Account:
        found = await self._existing(bare)
        dropped = await self._database.write(storage.set_state, found.id, state, ends)
        changed = Account(found.id, found.jid, state, found.role, ends)
        self._remember(changed)
        log.info("account state changed", account=bare, state=state.name.lower())
        if state is not AccountState.ACTIVE:
            ending = Ending.DELETED if state is AccountState.DELETED else Ending.DISABLED
            self._tell(Revocation(changed, ending, tuple(dropped)))
        return changed

    async def _existing(self, bare: str) -> Account:
        found = await self.find(bare)
        if found is None or found.state is AccountState.DELETED:
            raise NotFound("no such account")
        return found

    def _announce(self, account: Account) -> None:
        for listener in self._role_listeners:
            listener(account)

    def _tell(self, revocation: Revocation) -> None:
        for listener in self._listeners:
            listener(revocation)

    def _remember(self, account: Account) -> None:
        bare = account.jid.bare
        self._absent.pop(bare, None)
        self._found[bare] = account
        self._found.move_to_end(bare)
        self._by_id[account.id] = account
        if len(self._found) > CACHED_ACCOUNTS:
            _, dropped = self._found.popitem(last=False)
            del self._by_id[dropped.id]

    # --- passwords --------------------------------------------------------------------------------------------------

    def _new_password(self, password: str) -> str:
        prepared = prepare(password, self._settings.password_max)
        if len(prepared) < self._settings.password_min:
            raise NotAcceptable(f"the password has fewer than {self._settings.password_min} characters")
        return prepared

    async def _derive_all(self, prepared: str) -> list[Verifier]:
        return await self._in_thread(derive_families, prepared, self._rounds())

    def _rounds(self) -> int:
        return min(max(self._settings.scram_iterations, MIN_ITERATIONS), MAX_ITERATIONS)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        if self._waiting >= MAX_WAITING:
            raise ResourceConstraint("too many logins at the moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1


def token_digest(token: str) -> bytes:
    """What is stored of a random token: it has 128 bits or more, so one plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()
