"""Publish-subscribe for everything that is no client: what other services call."""

from collections.abc import Callable, Collection, Sequence

from homeserver.domain.accounts import Account
from homeserver.domain.pubsub import Item, NewItem, Node, NodeConfigChange, NodeEvent
from homeserver.protocol.jid import JID


class PubSub:
    """Nodes of accounts (host: the bare JID) and of the service (host: its domain). ``on_event`` hears what is committed.

    ``asker`` and ``publisher`` may be full JIDs; None is the server itself, which is not asked for its rights.
    """

    def __init__(self) -> None:
        self.on_event: list[Callable[[NodeEvent], None]] = []

    async def publish(
        self,
        host: JID,
        node: str,
        publisher: JID,
        items: Sequence[NewItem],
        options: NodeConfigChange | None = None,
    ) -> list[str]:
        """Publish items and return their ids. A node that is not there is made if the publisher owns the host."""
        raise NotImplementedError

    async def items(
        self,
        host: JID,
        node: str,
        asker: JID | None,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Item]:
        """Items of a node, newest last: those with ``ids``, or the newest ``limit``. Raises `NotFound` and refusals."""
        raise NotImplementedError

    async def retract(self, host: JID, node: str, asker: JID | None, ids: Sequence[str], notify: bool = False) -> None:
        """Take items out (XEP-0060 s7.2)."""
        raise NotImplementedError

    async def purge(self, host: JID, node: str, asker: JID | None) -> None:
        """Take all items out (XEP-0060 s8.5)."""
        raise NotImplementedError

    async def delete(self, host: JID, node: str, asker: JID | None, redirect: str = "") -> None:
        """Take the node away (XEP-0060 s8.4)."""
        raise NotImplementedError

    async def configure(self, host: JID, node: str, asker: JID | None, change: NodeConfigChange) -> None:
        """Change the configuration of a node (XEP-0060 s8.2)."""
        raise NotImplementedError

    async def nodes(self, host: JID) -> list[Node]:
        """All nodes of a host, by name."""
        raise NotImplementedError

    async def last_items(self, account: Account, asker: JID, nodes: Collection[str]) -> list[tuple[Node, Item]]:
        """The newest item of each of the account's ``nodes`` that ``asker`` may read and whose configuration has it sent
        on presence (XEP-0163 s4.3.4). Usually answered from memory."""
        raise NotImplementedError
