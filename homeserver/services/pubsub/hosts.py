"""Hosts in memory: what an account, or the service, has as nodes, and who may read them."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

import structlog

from homeserver.domain.accounts import Account, AccountState
from homeserver.domain.errors import NotFound, ServiceUnavailable
from homeserver.domain.pubsub import (
    PEP_DEFAULT,
    SERVICE_DEFAULT,
    AccessModel,
    Affiliation,
    NodeConfig,
    NodeEvent,
    SubscriptionState,
)
from homeserver.domain.rosters import Roster
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts, Ending, Revocation
from homeserver.services.contacts import Contacts
from homeserver.services.pubsub import access, refusals
from homeserver.storage import pubsub as storage
from homeserver.storage.database import Database
from homeserver.storage.pubsub_shapes import StoredNode

log = structlog.get_logger(__name__)

CACHED_BYTES: Final = 64 * 1024 * 1024
"""What hosts in memory may take, roughly; those not used for longest are dropped."""
MAX_EMPTY: Final = 50_000
"""Addresses that are known to have no nodes."""
_HOST_BYTES: Final = 1024
_NODE_BYTES: Final = 1024
_RELATION_BYTES: Final = 300


class Host:
    """An address with its nodes by name, as last committed. ``account`` is None for the service."""

    __slots__ = ("account", "jid", "nodes", "weight")

    def __init__(self, jid: JID, account: Account | None, nodes: list[StoredNode]) -> None:
        self.jid = jid
        self.account = account
        self.nodes = {stored.node.name: stored for stored in nodes}
        self.weight = 0

    @property
    def default(self) -> NodeConfig:
        """The configuration of new nodes."""
        return SERVICE_DEFAULT if self.account is None else PEP_DEFAULT

    def find(self, name: str) -> StoredNode:
        """The node of that name. Raises `NotFound`, and `BadRequest` where no name is given."""
        if not name:
            raise refusals.nodeid_required()
        found = self.nodes.get(name)
        if found is None:
            raise NotFound("no such node")
        return found

    def held(self, stored: StoredNode, asker: JID) -> Affiliation:
        """The affiliation of ``asker`` with a node."""
        return access.affiliation(self.jid, stored.affiliations, asker)

    def owned(self, name: str, asker: JID | None) -> StoredNode:
        """The node, for its owner or the server (None). Raises `NotFound` and `Forbidden`."""
        stored = self.find(name)
        if asker is not None and self.held(stored, asker) is not Affiliation.OWNER:
            raise refusals.forbidden()
        return stored

    def weigh(self) -> int:
        """Roughly the bytes that this takes."""
        relations = sum(len(stored.affiliations) + len(stored.subscriptions) for stored in self.nodes.values())
        payloads = sum(len(stored.last.payload) for stored in self.nodes.values() if stored.last is not None)
        return _HOST_BYTES + _NODE_BYTES * len(self.nodes) + _RELATION_BYTES * relations + payloads


class Hosts:
    """Loads hosts, keeps those lately used, and lets one change of a host happen at a time.

    ``services`` are the domains of the service. ``on_event`` hears of what was committed, in order.
    """

    def __init__(self, database: Database, accounts: Accounts, contacts: Contacts, services: Collection[str]) -> None:
        self._database = database
        self._accounts = accounts
        self._contacts = contacts
        self.services = frozenset(services)
        self._held: OrderedDict[str, Host] = OrderedDict()
        self._weight = 0
        self._empty: OrderedDict[str, None] = OrderedDict()
        self._loads = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_event: list[Callable[[NodeEvent], None]] = []

    async def host(self, jid: JID) -> Host:
        """A host, to be read. Raises `ServiceUnavailable` where the address is none."""
        found = self._held.get(jid.bare)
        if found is not None:
            self._held.move_to_end(jid.bare)
            return found
        async with self._lock(jid.bare):
            return await self._loaded(jid)

    async def with_nodes(self, bares: Collection[str]) -> set[str]:
        """Those of the addresses that have nodes. Asked of all in one read; those that have none are remembered."""
        held, empty = self._held, self._empty
        found = {bare for bare in bares if bare in held and held[bare].nodes}
        unknown = [bare for bare in bares if bare not in held and bare not in empty]
        if unknown:
            loads = self._loads
            having = set(await self._database.read(storage.hosts_with_nodes, unknown))
            found |= having
            if loads == self._loads:  # else one of them may have got its first node meanwhile
                empty.update(dict.fromkeys(bare for bare in unknown if bare not in having))
                while len(empty) > MAX_EMPTY:
                    empty.popitem(last=False)
        return found

    def peek(self, bare: str) -> Host | None:
        """The host if it is in memory."""
        return self._held.get(bare)

    @asynccontextmanager
    async def editing(self, jid: JID) -> AsyncIterator[Host]:
        """A host, to be changed: nobody else changes it meanwhile. Raises as `host`."""
        async with self._lock(jid.bare):
            host = await self._loaded(jid)
            try:
                yield host
            finally:
                self._weigh(host)

    async def roster(self, host: Host) -> Roster | None:
        """The contacts of the account; None for the service."""
        return None if host.account is None else await self._contacts.roster(host.account)

    async def admit(self, host: Host, stored: StoredNode, asker: JID | None) -> None:
        """Raises the refusal where ``asker`` may not read the node; the server (None) may."""
        if asker is None:
            return
        held = host.held(stored, asker)
        if held is Affiliation.OWNER:
            return
        approved = access.is_subscribed(stored.subscriptions, asker)
        refusal = access.refusal_to_read(stored.node.config, held, asker, await self._needed(host, stored), approved)
        if refusal is not None:
            raise refusal

    async def audience(self, host: Host, stored: StoredNode) -> tuple[JID, ...]:
        """The addresses with a subscription that may read the node now."""
        if not stored.subscriptions:
            return ()
        roster = await self._needed(host, stored)
        return tuple(
            subscription.jid
            for subscription in stored.subscriptions.values()
            if subscription.state is SubscriptionState.SUBSCRIBED
            and access.may_read(
                stored.node.config, host.held(stored, subscription.jid), subscription.jid, roster, approved=True
            )
        )

    def tell(self, event: NodeEvent) -> None:
        """Let everybody know who listens."""
        for listener in self.on_event:
            listener(event)

    async def expire(self, now: float) -> None:
        """Take out the items whose time has come; ``now`` in seconds since the epoch."""
        for bare in await self._database.write(storage.expire, int(now * 1_000_000)):
            await self._drop(bare)

    def revoked(self, revocation: Revocation) -> None:
        """Listens to the accounts service: what a deleted account had is removed in the background."""
        if revocation.ending is Ending.DELETED:
            task = asyncio.get_running_loop().create_task(self._clear(revocation.account.jid.bare))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def settle(self) -> None:
        """Wait for what `revoked` began."""
        while self._leaving:
            await asyncio.wait(tuple(self._leaving))

    async def _clear(self, bare: str) -> None:
        try:
            named = await self._database.read(storage.hosts_naming, bare)
            async with self._lock(bare):
                await self._database.write(storage.clear, bare)
                self._forget(bare)
            for other in named:
                await self._drop(other)
        except Exception:
            log.exception("nodes of a deleted account were not removed", account=bare)

    async def _drop(self, bare: str) -> None:
        async with self._lock(bare):
            self._forget(bare)

    async def _needed(self, host: Host, stored: StoredNode) -> Roster | None:
        """The contacts, where the node's access model asks for them."""
        if stored.node.config.access_model in (AccessModel.PRESENCE, AccessModel.ROSTER):
            return await self.roster(host)
        return None

    async def _loaded(self, jid: JID) -> Host:
        bare = jid.bare
        found = self._held.get(bare)
        if found is None:
            account = None
            if jid.local:
                account = await self._accounts.find(bare)
                if account is None or account.state is AccountState.DELETED:
                    raise ServiceUnavailable
            elif bare not in self.services:
                raise ServiceUnavailable
            self._loads += 1
            found = Host(jid.to_bare(), account, await self._database.read(storage.load, bare))
            self._loads += 1
            self._empty.pop(bare, None)
            self._held[bare] = found
            self._weigh(found)
        self._held.move_to_end(bare)
        return found

    def _weigh(self, host: Host) -> None:
        if self._held.get(host.jid.bare) is not host:
            return
        weight = host.weigh()
        self._weight += weight - host.weight
        host.weight = weight
        while self._weight > CACHED_BYTES and len(self._held) > 1:
            self._forget(next(iter(self._held)))

    def _forget(self, bare: str) -> None:
        dropped = self._held.pop(bare, None)
        if dropped is not None:
            self._weight -= dropped.weight

    def _lock(self, bare: str) -> asyncio.Lock:
        found = self._locks.get(bare)
        if found is None:
            found = self._locks[bare] = asyncio.Lock()
        return found
