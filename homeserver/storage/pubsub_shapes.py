"""What goes into the store of publish-subscribe and comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from homeserver.domain.pubsub import Affiliation, Item, Node, NodeConfig, Subscription
from homeserver.protocol.jid import JID


class Exists(Exception):
    """There is a node of that name."""


class Full(Exception):
    """The items would take more room than they may."""


@dataclass(slots=True)
class StoredNode:
    """A node with everything but its items. ``last`` is its newest item, None where it has none or that is larger than
    `CACHED_PAYLOAD`; ``items`` is how many it has, ``bytes`` what their payloads take."""

    node: Node
    affiliations: dict[str, Affiliation] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    last: Item | None = None
    items: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node to be made. ``owner`` gets the affiliation in the store, None where the host itself owns the node."""

    host: JID
    name: str
    creator: JID
    created: float
    config: NodeConfig
    owner: JID | None


@dataclass(frozen=True, slots=True)
class Publication:
    """Items (id, payload) for a node, which is made first where ``node`` is a `NewNode`.

    ``now`` in microseconds. The newest ``keep`` items stay. ``room`` is how many bytes the node's payloads, or with
    ``shared`` those of all nodes of the host, may take.
    """

    node: int | NewNode
    host: JID
    publisher: JID
    items: Sequence[tuple[str, bytes]]
    now: int
    keep: int
    room: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication made: the items as stored, and number and bytes of all items of the node."""

    node: int
    items: tuple[Item, ...]
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items of a node: those published at ``since`` (microseconds) or later; with ``ids`` only these; else a page
    of at most ``limit``, newest first, behind item ``after`` or in front of item ``before`` ("" is the end)."""

    node: int
    since: int = 0
    ids: Sequence[str] | None = None
    limit: int | None = None
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items, newest first; ``total`` of the whole result and ``index`` of the first. ``known`` is False where the item
    that the page starts from does not exist."""

    items: tuple[Item, ...]
    total: int
    index: int = 0
    known: bool = True


@dataclass(frozen=True, slots=True)
class StoredCount:
    """Number and bytes of a node's items, and the newest as in `StoredNode`."""

    count: int
    bytes: int
    last: Item | None
