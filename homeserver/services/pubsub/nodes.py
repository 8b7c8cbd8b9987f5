"""Nodes: made, configured, emptied, taken away; and who is what to them (XEP-0060 s8)."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from homeserver.domain.accounts import Account, AccountState, Role
from homeserver.domain.errors import BadRequest, Conflict, NotAcceptable, NotFound
from homeserver.domain.pubsub import (
    PRIVATE_NODES,
    AccessModel,
    Affiliation,
    EventKind,
    Node,
    NodeConfig,
    NodeConfigChange,
    NodeEvent,
)
from homeserver.protocol.jid import JID
from homeserver.services.accounts import Accounts
from homeserver.services.clock import Clock
from homeserver.services.pubsub import access, refusals
from homeserver.services.pubsub.hosts import Host, Hosts
from homeserver.storage import pubsub as storage
from homeserver.storage.database import Database
from homeserver.storage.pubsub_shapes import Exists, NewNode, StoredNode

if TYPE_CHECKING:
    from config.feature_settings import PubSubSettings

MAX_NAME: Final = 1023
"""Bytes of a node's name and of an item's id."""
MAX_WORDS: Final = 4096
"""Characters of a title, description or type."""
MAX_GROUPS: Final = 100


class Nodes:
    """What owners do. ``asker`` None is the server itself, which may do everything."""

    def __init__(
        self, hosts: Hosts, database: Database, accounts: Accounts, clock: Clock, settings: "PubSubSettings"
    ) -> None:
        self._hosts = hosts
        self._database = database
        self._accounts = accounts
        self._clock = clock
        self._settings = settings

    # --- the life of a node -----------------------------------------------------------------------------------------

    async def create(self, jid: JID, name: str, asker: JID, change: NodeConfigChange | None = None) -> str:
        """Make a node and return its name; "" has one made up. Raises `Conflict`, `Forbidden` and what `new` does."""
        async with self._hosts.editing(jid) as host:
            name = name or secrets.token_hex(16)
            if name in host.nodes:
                raise Conflict("there is a node of that name")
            made = await self.new(host, name, asker, change)
            try:
                id_ = await self._database.write(storage.create, made)
            except Exists as error:
                raise Conflict("there is a node of that name") from error
            self.adopt(host, made, id_)
            return name

    async def new(self, host: Host, name: str, asker: JID, change: NodeConfigChange | None) -> NewNode:
        """What a new node of ``asker`` would be. Raises `Forbidden`, `ResourceConstraint` for too many, `NotAcceptable`
        for a name or a configuration that is not taken."""
        if not await self._may_create(host, asker):
            raise refusals.forbidden()
        if not 0 < len(name.encode()) <= MAX_NAME:
            raise NotAcceptable("the name of the node is too long")
        mine = [one for one in host.nodes.values() if one.node.creator.bare == asker.bare]
        if len(mine) >= self._settings.nodes or (
            host.account is None and len(host.nodes) >= self._settings.service_nodes
        ):
            raise refusals.max_nodes_exceeded()
        config = host.default if host.account is None else PRIVATE_NODES.get(name, host.default)
        if change is not None:
            config = self.settled(change).applied(config)
        self._check(host, name, config)
        owner = None if asker.bare == host.jid.bare else asker.to_bare()
        return NewNode(host.jid, name, asker.to_bare(), self._clock.now(), config, owner)

    def adopt(self, host: Host, made: NewNode, id_: int) -> StoredNode:
        """Take a node that was committed into memory."""
        stored = StoredNode(Node(id_, host.jid, made.name, made.config, made.creator, made.created))
        if made.owner is not None:
            stored.affiliations[made.owner.bare] = Affiliation.OWNER
        host.nodes[made.name] = stored
        return stored

    async def configure(self, jid: JID, name: str, asker: JID | None, change: NodeConfigChange) -> None:
        """Change the configuration (XEP-0060 s8.2); items above a smaller ``max_items`` go."""
        async with self._hosts.editing(jid) as host:
            stored = host.owned(name, asker)
            config = self.settled(change).applied(stored.node.config)
            self._check(host, name, config)
            if config == stored.node.config:
                return
            after = await self._database.write(storage.configure, stored.node.id, config, self.keep(config))
            if after is None:
                raise Conflict("the node is gone")
            stored.node = replace(stored.node, config=config)
            stored.items, stored.bytes, stored.last = after.items, after.bytes, after.last
            await self._tell(host, stored, EventKind.CONFIGURE, config.notify_config)

    async def delete(self, jid: JID, name: str, asker: JID | None, redirect: str = "") -> None:
        """Take the node away (XEP-0060 s8.4); ``redirect`` is a URI of the node to be used instead."""
        async with self._hosts.editing(jid) as host:
            stored = host.owned(name, asker)
            await self._database.write(storage.remove, stored.node.id)
            del host.nodes[name]
            await self._tell(host, stored, EventKind.DELETE, stored.node.config.notify_delete, redirect)

    async def purge(self, jid: JID, name: str, asker: JID | None) -> None:
        """Take all items out (XEP-0060 s8.5)."""
        async with self._hosts.editing(jid) as host:
            stored = host.owned(name, asker)
            if not stored.node.config.persist_items:
                raise refusals.unsupported("persistent-items")
            await self._database.write(storage.retract, stored.node.id, None)
            stored.items, stored.bytes, stored.last = 0, 0, None
            await self._tell(host, stored, EventKind.PURGE, stored.node.config.notify_retract)

    # --- configuration ----------------------------------------------------------------------------------------------

    def settled(self, change: NodeConfigChange) -> NodeConfigChange:
        """The change with numbers above what the server has cut down to "as much as there is"."""
        values = dict(change)
        if (values.get("max_items") or 0) >= self._settings.items:
            values["max_items"] = None
        if (values.get("max_payload_size") or 0) >= self._settings.item_bytes:
            values["max_payload_size"] = None
        return NodeConfigChange(**values)

    def keep(self, config: NodeConfig) -> int:
        """How many items a node keeps."""
        return min(config.max_items or self._settings.items, self._settings.items)

    def largest(self, config: NodeConfig) -> int:
        """Bytes of the largest payload."""
        return min(config.max_payload_size or self._settings.item_bytes, self._settings.item_bytes)

    @property
    def room(self) -> int:
        """Bytes of all items of an account, or of a node of the service."""
        return self._settings.account_bytes

    def is_crowded(self, host: Host, stored: StoredNode, asker: JID) -> bool:
        """Whether there is no room for another subscription: at the node, or for ``asker`` at the host."""
        mine = sum(
            subscription.jid.bare == asker.bare
            for node in host.nodes.values()
            for subscription in node.subscriptions.values()
        )
        return len(stored.subscriptions) >= self._settings.subscribers or mine >= self._settings.subscriptions

    def has_room(self, stored: StoredNode, added: int) -> bool:
        """Whether ``added`` more subscriptions fit the node."""
        return len(stored.subscriptions) + added <= self._settings.subscribers

    async def config(self, jid: JID, name: str, asker: JID) -> NodeConfig:
        """The configuration, for an owner."""
        return (await self._hosts.host(jid)).owned(name, asker).node.config

    async def default(self, jid: JID) -> NodeConfig:
        """The configuration of new nodes (XEP-0060 s8.3)."""
        return (await self._hosts.host(jid)).default

    def _check(self, host: Host, name: str, config: NodeConfig) -> None:
        is_private = host.account is not None and name in PRIVATE_NODES
        if is_private and config.access_model is not AccessModel.WHITELIST:
            raise NotAcceptable("this node is for its account alone")
        if host.account is None and config.access_model in (AccessModel.PRESENCE, AccessModel.ROSTER):
            raise refusals.unsupported_access_model()
        if max(len(config.title), len(config.description), len(config.type)) > MAX_WORDS:
            raise NotAcceptable("a text is too long")
        if len(config.roster_groups) > MAX_GROUPS or any(len(group) > MAX_NAME for group in config.roster_groups):
            raise NotAcceptable("too many groups")

    # --- looking around ---------------------------------------------------------------------------------------------

    async def visible(self, jid: JID, asker: JID) -> list[Node]:
        """The nodes that ``asker`` may read or ask to subscribe to, by name."""
        host = await self._hosts.host(jid)
        roster = await self._hosts.roster(host)
        return sorted(
            (
                stored.node
                for stored in host.nodes.values()
                if access.is_visible(stored.node.config, host.held(stored, asker), asker, roster, stored.subscriptions)
            ),
            key=lambda node: node.name,
        )

    async def describe(self, jid: JID, name: str, asker: JID) -> StoredNode:
        """A node that ``asker`` may see; it is not to be changed. Raises `NotFound`."""
        host = await self._hosts.host(jid)
        stored = host.find(name)
        roster = await self._hosts.roster(host)
        if not access.is_visible(stored.node.config, host.held(stored, asker), asker, roster, stored.subscriptions):
            raise NotFound("no such node")  # the same as for one that does not exist
        return stored

    # --- affiliations -----------------------------------------------------------------------------------------------

    async def affiliations(self, jid: JID, name: str, asker: JID) -> dict[str, Affiliation]:
        """Who is what, for an owner (XEP-0060 s8.9.1)."""
        (await self._hosts.host(jid)).owned(name, asker)
        return await self.standing(jid, name)

    async def standing(self, jid: JID, name: str) -> dict[str, Affiliation]:
        """The affiliations of a node, with the account among its owners; the caller checks who may know."""
        host = await self._hosts.host(jid)
        found = dict(host.find(name).affiliations)
        return {host.jid.bare: Affiliation.OWNER, **found} if host.account is not None else found

    async def own_affiliations(self, jid: JID, asker: JID, name: str = "") -> list[tuple[str, Affiliation]]:
        """What ``asker`` is to the nodes of the host, or to one (XEP-0060 s5.7)."""
        host = await self._hosts.host(jid)
        chosen = [host.find(name)] if name else list(host.nodes.values())
        held = ((stored.node.name, host.held(stored, asker)) for stored in chosen)
        return sorted((node, affiliation) for node, affiliation in held if affiliation is not Affiliation.NONE)

    async def affiliate(self, jid: JID, name: str, asker: JID, changes: Mapping[JID, Affiliation]) -> None:
        """Set affiliations (XEP-0060 s8.9.2). Raises `NotAcceptable` where no owner would be left."""
        async with self._hosts.editing(jid) as host:
            stored = host.owned(name, asker)
            after = dict(stored.affiliations)
            wanted: dict[str, Affiliation] = {}
            for who, affiliation in changes.items():
                if who.bare == host.jid.bare:
                    if affiliation is not Affiliation.OWNER:
                        raise NotAcceptable("an account owns its nodes")
                    continue
                wanted[who.bare] = affiliation
                after[who.bare] = affiliation
            after = {who: affiliation for who, affiliation in after.items() if affiliation is not Affiliation.NONE}
            if host.account is None and Affiliation.OWNER not in after.values():
                raise NotAcceptable("a node has an owner")
            if len(after) > max(self._settings.subscribers, len(stored.affiliations)):
                raise NotAcceptable("too many affiliations")
            await self._database.write(storage.affiliate, stored.node.id, wanted)
            stored.affiliations = after

    # --- within -----------------------------------------------------------------------------------------------------

    async def _may_create(self, host: Host, asker: JID) -> bool:
        if host.account is not None:
            return asker.bare == host.jid.bare
        account = await self._accounts.find(asker.bare)
        if account is None or account.state is not AccountState.ACTIVE:
            return False
        return _has_role(account, self._settings.creators)

    async def _tell(self, host: Host, stored: StoredNode, kind: EventKind, is_told: bool, redirect: str = "") -> None:
        node = stored.node
        told = is_told and node.config.deliver_notifications
        self._hosts.tell(
            NodeEvent(
                kind,
                host.jid,
                node.name,
                node.config,
                subscribers=await self._hosts.audience(host, stored),
                affiliations=dict(stored.affiliations),
                redirect=redirect,
                is_told=told,
            )
        )


def _has_role(account: Account, creators: str) -> bool:
    if creators == "members":
        return account.role is not Role.GUEST
    return creators == "operators" and account.role in (Role.ADMIN, Role.OPERATOR)


def check_name(name: str) -> None:
    """Raises `BadRequest` for an item id that is too long or empty."""
    if not 0 < len(name.encode()) <= MAX_NAME:
        raise BadRequest("an item id has 1 to 1023 bytes")
