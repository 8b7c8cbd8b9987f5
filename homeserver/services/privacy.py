"""Privacy of accounts: block lists, archive preferences and strangers, in memory where messages pass.

Most accounts chose nothing; for them an answer is one look into a set. What the others chose is loaded when it is needed
(`load`), kept for as long as the account has a session, and dropped after that when too much is kept.

Who must not wait asks `peek` or `blocks`. Until an account's choice is loaded `blocks` says yes: better a presence that
does not go out than one that reaches somebody blocked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from homeserver.domain.errors import Blocked, NotAcceptable, ResourceConstraint
from homeserver.domain.privacy import ArchivePreferences, Archiving, Facts, Strangers
from homeserver.protocol import namespaces as ns
from homeserver.protocol.xml import element
from homeserver.services.accounts import UNKNOWN, Ending, Revocation, Unknown
from homeserver.storage import privacy as storage

if TYPE_CHECKING:
    from config.feature_settings import PrivacySettings
    from homeserver.domain.accounts import Account
    from homeserver.domain.rosters import Roster
    from homeserver.protocol.jid import JID
    from homeserver.services.sessions import Sessions
    from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

CACHED: Final = 20_000
CACHED_PEERS: Final = 50_000
_LOOKED_AT: Final = 32
"""How many of the oldest are looked at for one that may be dropped."""


class Privacy:
    """One per server; call `start` before the first message.

    ``roster_of`` gives the roster of an account and ``has_written`` whether an account ever sent a message to a bare JID;
    the composition root sets both, because their services are built on this one. ``is_addressed`` are asked whether an
    account shows itself to somebody who is no contact, such as a room it is in.
    """

    def __init__(self, database: Database, sessions: Sessions, settings: PrivacySettings) -> None:
        self._database = database
        self._sessions = sessions
        self._settings = settings
        self._marked: set[int] = set()
        self._loaded: OrderedDict[int, Facts] = OrderedDict()
        self._written: OrderedDict[tuple[int, str], bool] = OrderedDict()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()
        self._default = Strangers(settings.strangers)
        self.is_used = self._default is not Strangers.OFF
        """Whether any account chose anything, or all have a policy: a plain attribute, every message asks."""
        self.roster_of: Callable[[Account], Awaitable[Roster]] | None = None
        self.has_written: Callable[[Account, str], Awaitable[bool]] | None = None
        self.is_addressed: list[Callable[[Account, JID], bool]] = []

    async def start(self) -> None:
        """Learn which accounts chose anything."""
        self._marked = await self._database.read(storage.accounts)
        self._count()

    # --- without waiting --------------------------------------------------------------------------------------------

    def watches(self, one: Account | None, other: Account | None) -> bool:
        """Whether a message between the two needs a closer look: one of them chose something, or all do by policy."""
        marked = self._marked
        if marked and ((one is not None and one.id in marked) or (other is not None and other.id in marked)):
            return True
        return self._default is not Strangers.OFF and other is not None

    def peek(self, account: Account) -> Facts | Unknown | None:
        """What an account chose, None where it chose nothing, or `UNKNOWN` where `load` is needed."""
        if account.id not in self._marked and self._default is Strangers.OFF:
            return None
        return self._loaded.get(account.id, UNKNOWN)

    def facts(self, account: Account) -> Facts | None:
        """As `peek`. Raises `ResourceConstraint` where it is not loaded."""
        found = self.peek(account)
        if isinstance(found, Unknown):
            raise ResourceConstraint("Too many accounts are being looked up, send it again")
        return found

    def bars(self, account: Account, jid: JID) -> bool | None:
        """Whether an account blocks an address; None where `load` is needed first."""
        if account.id not in self._marked:
            return False
        found = self._loaded.get(account.id)
        return None if found is None else found.blocks(jid)

    def blocks(self, account: int, jid: JID) -> bool:
        """Whether the account with that number blocks an address, or may do so."""
        if account not in self._marked:
            return False
        found = self._loaded.get(account)
        return found is None or found.blocks(jid)

    def hides(self, owner: Account | Unknown | None, jid: JID) -> bool:
        """As `blocks`, for an account that was perhaps not found."""
        return owner is not None and not isinstance(owner, Unknown) and self.blocks(owner.id, jid)

    def loading(self, account: Account) -> Awaitable[object] | None:
        """What is to be awaited before `blocks` is sure; None where it is."""
        return self.load(account) if account.id in self._marked and account.id not in self._loaded else None

    def is_ready(self, sender: Account | None, source: JID, recipient: Account | None) -> bool:
        """Whether a message from ``source`` can be judged without waiting."""
        if sender is not None and isinstance(self.peek(sender), Unknown):
            return False
        if recipient is None:
            return True
        theirs = self.peek(recipient)
        return not isinstance(theirs, Unknown) and self._acquainted(recipient, theirs, source) is not None

    def is_stranger(self, recipient: Account, facts: Facts | None, source: JID) -> bool:
        """Whether a policy applies to what ``source`` sends: it is no contact and was never written to."""
        return self._acquainted(recipient, facts, source) is False

    def wrote(self, sender: Account, to: JID) -> None:
        """An account with a policy sent a message: who gets it is no stranger from now on."""
        found = self.peek(sender)
        if isinstance(found, Facts) and found.strangers is not Strangers.OFF:
            self._note(sender.id, to.bare, True)

    # --- with waiting -----------------------------------------------------------------------------------------------

    async def load(self, account: Account) -> Facts:
        """What an account chose."""
        found = self.peek(account)
        if found is None:
            return Facts(account.jid)
        if isinstance(found, Facts):
            return found
        async with self._lock(account):
            found = self._loaded.get(account.id)
            if found is None:
                found = self._keep(account, await self._read(account))
        return found

    async def prepare(self, sender: Account | None, source: JID, recipient: Account | None) -> None:
        """Load what `is_ready` asks for."""
        if sender is not None:
            await self.load(sender)
        if recipient is None:
            return
        theirs = await self.load(recipient)
        if self._acquainted(recipient, theirs, source) is None:
            written = self.has_written is not None and await self.has_written(recipient, source.bare)
            self._note(recipient.id, source.bare, written)

    async def check_outgoing(self, account: Account, to: JID) -> None:
        """Raises `Blocked` where the account blocks who it wants to reach."""
        if account.id in self._marked and (await self.load(account)).blocks(to):
            raise blocked_error()

    async def bars_later(self, account: Account, jid: JID) -> bool:
        """Whether an account blocks an address."""
        return account.id in self._marked and (await self.load(account)).blocks(jid)

    # --- changing ---------------------------------------------------------------------------------------------------

    async def block(self, account: Account, jids: Sequence[JID]) -> tuple[Facts, Facts]:
        """Block addresses; the facts before and after. Raises `ResourceConstraint` where the list would be too long."""
        texts = [str(jid) for jid in jids]
        async with self._lock(account):
            before = await self._current(account)
            if len(before.blocked.union(texts)) > self._settings.blocked:
                raise ResourceConstraint("the block list is full")
            await self._database.write(storage.block, account.id, texts)
            return before, self._keep(account, replace(before, blocked=before.blocked.union(texts)))

    async def unblock(self, account: Account, jids: Sequence[JID] | None) -> tuple[Facts, Facts]:
        """Take addresses from the block list, all of them for None; the facts before and after."""
        texts = None if jids is None else [str(jid) for jid in jids]
        async with self._lock(account):
            before = await self._current(account)
            await self._database.write(storage.unblock, account.id, texts)
            left = frozenset[str]() if texts is None else before.blocked.difference(texts)
            return before, self._keep(account, replace(before, blocked=left))

    async def set_archive(self, account: Account, wanted: ArchivePreferences) -> ArchivePreferences:
        """Replace the archive preferences; what was archived stays. An address in both lists is always archived.

        Raises `NotAcceptable` where the lists are too long.
        """
        wanted = replace(wanted, never=wanted.never - wanted.always)
        if len(wanted.always) + len(wanted.never) > self._settings.archive_exceptions:
            raise NotAcceptable("too many addresses")
        async with self._lock(account):
            before = await self._current(account)
            await self._database.write(storage.set_archive, account.id, wanted)
            await self._replace(account, replace(before, archive=wanted))
        return wanted

    async def set_strangers(self, account: Account, wanted: Strangers | None) -> None:
        """Choose what becomes of messages from strangers; None leaves it to the server."""
        async with self._lock(account):
            before = await self._current(account)
            await self._database.write(storage.set_strangers, account.id, wanted)
            await self._replace(account, replace(before, own_strangers=wanted))

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: what a deleted account chose is removed in the background."""
        if revocation.ending is Ending.DELETED:
            task = asyncio.get_running_loop().create_task(self._purge(revocation.account))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def settle(self) -> None:
        """Wait for what `revoked` began."""
        while self._leaving:
            await asyncio.wait(tuple(self._leaving))

    async def _purge(self, account: Account) -> None:
        try:
            async with self._lock(account):
                await self._database.write(storage.purge, account.id)
                self._marked.discard(account.id)
                self._loaded.pop(account.id, None)
                self._count()
        except Exception:
            log.exception("privacy of a deleted account was not removed", account=account.jid.bare)

    # --- memory -----------------------------------------------------------------------------------------------------

    def _acquainted(self, account: Account, facts: Facts | None, source: JID) -> bool | None:
        """Whether ``source`` is no stranger to the account; None where nobody knows yet."""
        if facts is None or facts.strangers is Strangers.OFF or facts.knows(source):
            return True
        if any(asked(account, source) for asked in self.is_addressed):
            return True
        return self._written.get((account.id, source.bare))

    def _note(self, account: int, peer: str, written: bool) -> None:
        self._written[account, peer] = written
        self._written.move_to_end((account, peer))
        if len(self._written) > CACHED_PEERS:
            self._written.popitem(last=False)

    async def _current(self, account: Account) -> Facts:
        return self._loaded.get(account.id) or await self._read(account)

    async def _read(self, account: Account) -> Facts:
        return await self._complete(account, await self._database.read(storage.load, account.id, account.jid))

    async def _complete(self, account: Account, facts: Facts) -> Facts:
        """Fill in the policy that applies, and the roster where one of the choices asks for it."""
        facts = replace(facts, strangers=facts.own_strangers or self._default)
        needed = facts.archive.default is Archiving.ROSTER or facts.strangers is not Strangers.OFF
        if needed and facts.roster is None and self.roster_of is not None:
            facts = replace(facts, roster=await self.roster_of(account))
        return facts

    async def _replace(self, account: Account, facts: Facts) -> None:
        self._keep(account, await self._complete(account, facts))

    def _keep(self, account: Account, facts: Facts) -> Facts:
        if facts.blocked or facts.archive != ArchivePreferences() or facts.own_strangers is not None:
            self._marked.add(account.id)
        else:
            self._marked.discard(account.id)
        self._count()
        self._loaded[account.id] = facts
        self._loaded.move_to_end(account.id)
        for _ in range(_LOOKED_AT if len(self._loaded) > CACHED else 0):
            oldest = next(iter(self._loaded))
            if self._sessions.of(self._loaded[oldest].owner.bare):
                self._loaded.move_to_end(oldest)
                continue
            del self._loaded[oldest]
            break
        return facts

    def _count(self) -> None:
        self.is_used = bool(self._marked) or self._default is not Strangers.OFF

    def _lock(self, account: Account) -> asyncio.Lock:
        found = self._locks.get(account.id)
        if found is None:
            found = self._locks[account.id] = asyncio.Lock()
        return found


def blocked_error() -> Blocked:
    """What to tell an account that writes to somebody whom it blocks (XEP-0191 s3.3)."""
    return Blocked(application=element(ns.BLOCKING_ERRORS, "blocked"))
