"""Items: published, read, taken out (XEP-0060 s6.5, s7)."""

import secrets
from collections.abc import Collection, Sequence

from homeserver.domain.errors import Conflict, Forbidden, NotFound
from homeserver.domain.pubsub import (
    Affiliation,
    EventKind,
    Item,
    NewItem,
    Node,
    NodeConfig,
    NodeConfigChange,
    NodeEvent,
    SendLast,
)
from homeserver.domain.rosters import Roster
from homeserver.protocol.jid import JID
from homeserver.services.clock import Clock
from homeserver.services.pubsub import access, refusals
from homeserver.services.pubsub.hosts import Host, Hosts
from homeserver.services.pubsub.nodes import Nodes, check_name
from homeserver.storage import pubsub as storage
from homeserver.storage.database import Database
from homeserver.storage.pubsub_shapes import Exists, Full, ItemPage, NewNode, Publication, Published, StoredNode, Wanted


class Publishing:
    """What publishers and readers do. ``asker`` None is the server itself, which may do everything."""

    def __init__(self, hosts: Hosts, nodes: Nodes, database: Database, clock: Clock) -> None:
        self._hosts = hosts
        self._nodes = nodes
        self._database = database
        self._clock = clock

    # --- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self, jid: JID, name: str, publisher: JID, items: Sequence[NewItem], options: NodeConfigChange | None = None
    ) -> list[str]:
        """Publish items and return their ids; of several the last is the newest.

        A node that is not there is made with ``options``, if ``publisher`` may make nodes; for one that is there they are
        a precondition (XEP-0060 s7.1.4, s7.1.5). Raises `Forbidden`, `Conflict` (precondition), `BadRequest`,
        `NotAcceptable` (payload too big), `ResourceConstraint` (quotas).
        """
        if not name:
            raise refusals.nodeid_required()
        async with self._hosts.editing(jid) as host:
            stored = host.nodes.get(name)
            made: NewNode | None = None
            if stored is None:
                made = await self._new(host, name, publisher, options)
                config = made.config
            else:
                config = stored.node.config
                self._may_publish(host, stored, publisher)
                if options is not None and not self._nodes.settled(options).is_met_by(config):
                    raise refusals.precondition_not_met()
            self._check(config, items)
            named = [NewItem(item.id or secrets.token_hex(16), item.payload) for item in items]
            held = await self._keep(host, made or stored, config, publisher, named)
            if made is not None:
                stored = self._nodes.adopt(host, made, held.node)
            assert stored is not None
            if config.persist_items:
                stored.items, stored.bytes = held.count, held.bytes
                newest = held.items[-1]
                stored.last = newest if len(newest.payload) <= storage.CACHED_PAYLOAD else None
            await self._tell(host, stored, EventKind.PUBLISH, held.items, publisher, True)
            return [item.id for item in held.items]

    async def _new(self, host: Host, name: str, publisher: JID, options: NodeConfigChange | None) -> NewNode:
        try:
            return await self._nodes.new(host, name, publisher, options)
        except Forbidden:
            # Who may not make the node is told what is true for it: there is none (XEP-0060 s7.1.3.3).
            raise NotFound("no such node") from None

    def _may_publish(self, host: Host, stored: StoredNode, publisher: JID) -> None:
        approved = access.is_subscribed(stored.subscriptions, publisher)
        if not access.may_publish(stored.node.config, host.held(stored, publisher), approved):
            raise refusals.forbidden()

    def _check(self, config: NodeConfig, items: Sequence[NewItem]) -> None:
        """XEP-0060 s4.3, s7.1.3."""
        if not items and (config.persist_items or config.deliver_payloads):
            raise refusals.item_required()
        if items and not config.persist_items and not config.deliver_payloads:
            raise refusals.item_forbidden()
        largest = self._nodes.largest(config)
        for item in items:
            if item.id is not None:
                check_name(item.id)
            if config.deliver_payloads and not item.payload:
                raise refusals.payload_required()
            if len(item.payload) > largest:
                raise refusals.payload_too_big(f"an item has at most {largest} bytes")

    async def _keep(
        self,
        host: Host,
        target: NewNode | StoredNode | None,
        config: NodeConfig,
        publisher: JID,
        items: Sequence[NewItem],
    ) -> Published:
        """Store the items, and the node where it is new."""
        assert target is not None
        now = self._clock.microseconds()
        if not config.persist_items:
            passing = tuple(Item(item.id or "", publisher.to_bare(), now, item.payload) for item in items)
            if isinstance(target, NewNode):
                return Published(await self._database.write(storage.create, target), passing, 0, 0)
            return Published(target.node.id, passing, 0, 0)
        publication = Publication(
            target if isinstance(target, NewNode) else target.node.id,
            host.jid,
            publisher,
            [(item.id or "", item.payload) for item in items],
            now,
            self._nodes.keep(config),
            self._nodes.room,
            host.account is not None,
        )
        try:
            return await self._database.write(storage.publish, publication)
        except Full as error:
            raise refusals.max_items_exceeded("there is no room for more items") from error
        except Exists as error:
            raise Conflict("there is a node of that name") from error

    # --- taking out -------------------------------------------------------------------------------------------------

    async def retract(self, jid: JID, name: str, asker: JID | None, ids: Sequence[str], notify: bool = False) -> None:
        """Take items out (XEP-0060 s7.2): owners any, other publishers their own. Raises `NotFound`, `Forbidden`."""
        async with self._hosts.editing(jid) as host:
            stored = host.find(name)
            if not stored.node.config.persist_items:
                raise refusals.unsupported("persistent-items")
            if not ids:
                raise refusals.item_required()
            held = Affiliation.OWNER if asker is None else host.held(stored, asker)
            if asker is not None and held is not Affiliation.OWNER:
                self._may_publish(host, stored, asker)
            found = await self._database.read(storage.publishers, stored.node.id, list(ids))
            if len(found) < len(set(ids)):
                raise NotFound("no such item")
            if asker is not None and held is not Affiliation.OWNER and set(found.values()) != {asker.bare}:
                raise refusals.forbidden()
            left = await self._database.write(storage.retract, stored.node.id, list(ids))
            stored.items, stored.bytes, stored.last = left.count, left.bytes, left.last
            gone = tuple(
                Item(id_, JID.parse(found[id_]), self._clock.microseconds(), b"") for id_ in dict.fromkeys(ids)
            )
            await self._tell(host, stored, EventKind.RETRACT, gone, asker, notify or stored.node.config.notify_retract)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def items(
        self,
        jid: JID,
        name: str,
        asker: JID | None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Item]:
        """Items, newest first: those with ``ids``, or the newest ``limit``. Raises `NotFound` and what access refuses."""
        return list((await self.page(jid, name, asker, ids=ids, limit=limit)).items)

    async def page(
        self,
        jid: JID,
        name: str,
        asker: JID | None,
        *,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> ItemPage:
        """A page of items, see `homeserver.storage.pubsub.Wanted`. Raises `NotFound` also where ``after`` or ``before`` is
        no item."""
        host = await self._hosts.host(jid)
        stored = host.find(name)
        await self._hosts.admit(host, stored, asker)
        if not stored.node.config.persist_items:
            raise refusals.unsupported("persistent-items")
        since = self._since(stored.node.config)
        last = stored.last
        if ids is None and not after and not before and limit != 0:
            if stored.items == 0:
                return ItemPage((), 0)
            if stored.items == 1 and last is not None:
                return ItemPage((last,), 1) if last.published_at >= since else ItemPage((), 0)
        wanted = Wanted(stored.node.id, since, ids, limit, after, before)
        found = await self._database.read(storage.page, wanted)
        if not found.known:
            raise NotFound("no such item")
        return found

    async def item_ids(self, jid: JID, name: str, asker: JID, limit: int) -> list[str]:
        """Ids of the newest items, newest first; access as for `items`."""
        host = await self._hosts.host(jid)
        stored = host.find(name)
        await self._hosts.admit(host, stored, asker)
        return await self._database.read(storage.item_ids, stored.node.id, self._since(stored.node.config), limit)

    async def last_items(self, jid: JID, asker: JID, names: Collection[str]) -> list[tuple[Node, Item]]:
        """The newest item of each of the nodes that ``asker`` may read and that are configured to send it on presence."""
        host = await self._hosts.host(jid)
        if not host.nodes:
            return []
        roster = await self._hosts.roster(host)
        found = []
        for name in names:
            stored = host.nodes.get(name)
            if stored is not None and self._is_sent(host, stored, asker, roster):
                item = await self.last(stored)
                if item is not None:
                    found.append((stored.node, item))
        return found

    async def last(self, stored: StoredNode) -> Item | None:
        """The newest item of a node, no matter who asks."""
        since = self._since(stored.node.config)
        if stored.last is not None:
            return stored.last if stored.last.published_at >= since else None
        if stored.items == 0:
            return None
        page = await self._database.read(storage.page, Wanted(stored.node.id, since, limit=1))
        return page.items[0] if page.items else None

    def _is_sent(self, host: Host, stored: StoredNode, asker: JID, roster: Roster | None) -> bool:
        config = stored.node.config
        if config.send_last is not SendLast.ON_SUB_AND_PRESENCE or not config.deliver_notifications:
            return False
        held = host.held(stored, asker)
        if held is Affiliation.OWNER:
            return True
        return access.may_read(config, held, asker, roster, access.is_subscribed(stored.subscriptions, asker))

    def _since(self, config: NodeConfig) -> int:
        if config.item_expire is None:
            return 0
        return self._clock.microseconds() - config.item_expire * 1_000_000

    async def _tell(
        self,
        host: Host,
        stored: StoredNode,
        kind: EventKind,
        items: tuple[Item, ...],
        publisher: JID | None,
        is_told: bool,
    ) -> None:
        node = stored.node
        self._hosts.tell(
            NodeEvent(
                kind,
                host.jid,
                node.name,
                node.config,
                items,
                publisher,
                await self._hosts.audience(host, stored),
                dict(stored.affiliations),
                is_told=is_told and node.config.deliver_notifications,
            )
        )
