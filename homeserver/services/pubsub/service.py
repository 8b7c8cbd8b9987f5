"""Publish-subscribe for everything that is no client: what other services call."""

from collections.abc import Callable, Collection, Sequence

from homeserver.domain.accounts import Account
from homeserver.domain.pubsub import Item, NewItem, Node, NodeConfigChange, NodeEvent
from homeserver.protocol.jid import JID
from homeserver.services.pubsub.hosts import Hosts
from homeserver.services.pubsub.nodes import Nodes
from homeserver.services.pubsub.publishing import Publishing
from homeserver.services.pubsub.subscriptions import Subscriptions


class PubSub:
    """Nodes of accounts (host: the bare JID) and of the service (host: its domain). ``on_event`` hears what is committed.

    ``asker`` and ``publisher`` may be full JIDs; None is the server itself, which is not asked for its rights. The parts
    have more than what is here: ``owners``, ``publishing``, ``subscriptions``.
    """

    def __init__(self, hosts: Hosts, owners: Nodes, publishing: Publishing, subscriptions: Subscriptions) -> None:
        self.hosts = hosts
        self.owners = owners
        self.publishing = publishing
        self.subscriptions = subscriptions

    @property
    def on_event(self) -> list[Callable[[NodeEvent], None]]:
        """Who is told of every event, on the loop, after the commit and in order."""
        return self.hosts.on_event

    async def publish(
        self,
        host: JID,
        node: str,
        publisher: JID,
        items: Sequence[NewItem],
        options: NodeConfigChange | None = None,
    ) -> list[str]:
        """Publish items and return their ids. A node that is not there is made if the publisher owns the host. See
        `Publishing.publish`."""
        return await self.publishing.publish(host, node, publisher, items, options)

    async def items(
        self,
        host: JID,
        node: str,
        asker: JID | None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Item]:
        """Items of a node, newest first: those with ``ids``, or the newest ``limit``. Raises `NotFound` and refusals."""
        return await self.publishing.items(host, node, asker, ids, limit)

    async def retract(self, host: JID, node: str, asker: JID | None, ids: Sequence[str], notify: bool = False) -> None:
        """Take items out (XEP-0060 s7.2)."""
        await self.publishing.retract(host, node, asker, ids, notify)

    async def purge(self, host: JID, node: str, asker: JID | None) -> None:
        """Take all items out (XEP-0060 s8.5)."""
        await self.owners.purge(host, node, asker)

    async def delete(self, host: JID, node: str, asker: JID | None, redirect: str = "") -> None:
        """Take the node away (XEP-0060 s8.4)."""
        await self.owners.delete(host, node, asker, redirect)

    async def configure(self, host: JID, node: str, asker: JID | None, change: NodeConfigChange) -> None:
        """Change the configuration of a node (XEP-0060 s8.2)."""
        await self.owners.configure(host, node, asker, change)

    async def nodes(self, host: JID) -> list[Node]:
        """All nodes of a host, by name."""
        found = await self.hosts.host(host)
        return sorted((stored.node for stored in found.nodes.values()), key=lambda node: node.name)

    async def last_items(self, account: Account, asker: JID, nodes: Collection[str]) -> list[tuple[Node, Item]]:
        """The newest item of each of the account's ``nodes`` that ``asker`` may read and whose configuration has it sent
        on presence (XEP-0163 s4.3.4). Usually answered from memory."""
        return await self.publishing.last_items(account.jid, asker, nodes)
