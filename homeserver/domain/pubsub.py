"""Publish-subscribe: nodes, their items, and who may do what (XEP-0060, XEP-0163).

A *host* is the address that nodes belong to: an account's bare JID (personal eventing), or the domain of the
publish-subscribe service. All addresses here are bare unless said otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID


class AccessModel(StrEnum):
    """Who may subscribe and read (XEP-0060 s4.5)."""

    AUTHORIZE = "authorize"
    OPEN = "open"
    PRESENCE = "presence"
    ROSTER = "roster"
    WHITELIST = "whitelist"


class PublishModel(StrEnum):
    """Who may publish (``pubsub#publish_model``)."""

    PUBLISHERS = "publishers"
    SUBSCRIBERS = "subscribers"
    OPEN = "open"


class SendLast(StrEnum):
    """When the newest item is sent without a new publication (``pubsub#send_last_published_item``)."""

    NEVER = "never"
    ON_SUB = "on_sub"
    ON_SUB_AND_PRESENCE = "on_sub_and_presence"


class Affiliation(StrEnum):
    """The lasting relation of an address to a node (XEP-0060 s4.1)."""

    OWNER = "owner"
    PUBLISHER = "publisher"
    PUBLISH_ONLY = "publish-only"
    MEMBER = "member"
    NONE = "none"
    OUTCAST = "outcast"


class SubscriptionState(StrEnum):
    """XEP-0060 s4.2; subscriptions have no options here, so none is ever unconfigured."""

    NONE = "none"
    PENDING = "pending"
    SUBSCRIBED = "subscribed"


class ItemReply(StrEnum):
    """Whose address is given as the one to reply to (``pubsub#itemreply``)."""

    OWNER = "owner"
    PUBLISHER = "publisher"


class EventKind(StrEnum):
    """What happened to a node."""

    PUBLISH = "publish"
    RETRACT = "retract"
    PURGE = "purge"
    DELETE = "delete"
    CONFIGURE = "configure"
    LAST = "last"
    """The newest item, for ``subscribers`` only: they have just subscribed (XEP-0060 s6.1.7)."""
    SUBSCRIPTION = "subscription"
    """The state of ``subscription`` was changed by an owner; its ``jid`` is to be told (XEP-0060 s8.8.4)."""
    REQUEST = "request"
    """``subscription`` waits for approval; ``subscribers`` are the owners to be asked (XEP-0060 s8.6)."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The configuration of a node (XEP-0060 s16.4.4).

    ``max_items`` None is "max": as many as the host may have. ``item_expire`` in seconds, None for never.
    ``max_payload_size`` in bytes, None for what the host allows. ``notification_type`` is the type of the messages that
    tell of events: "headline" or "normal".
    """

    access_model: AccessModel = AccessModel.PRESENCE
    publish_model: PublishModel = PublishModel.PUBLISHERS
    send_last: SendLast = SendLast.ON_SUB_AND_PRESENCE
    max_items: int | None = 1
    persist_items: bool = True
    deliver_notifications: bool = True
    deliver_payloads: bool = True
    notify_config: bool = False
    notify_delete: bool = True
    notify_retract: bool = True
    notification_type: str = "headline"
    roster_groups: tuple[str, ...] = ()
    item_expire: int | None = None
    item_reply: ItemReply | None = None
    max_payload_size: int | None = None
    title: str = ""
    description: str = ""
    type: str = ""


PEP_DEFAULT: Final = NodeConfig()
SERVICE_DEFAULT: Final = NodeConfig(
    access_model=AccessModel.OPEN, send_last=SendLast.NEVER, max_items=20, notification_type="headline"
)
_PRIVATE_DEFAULT: Final = NodeConfig(access_model=AccessModel.WHITELIST)
_PRIVATE_LIST: Final = NodeConfig(access_model=AccessModel.WHITELIST, max_items=None, send_last=SendLast.NEVER)
PRIVATE_NODES: Final[Mapping[str, NodeConfig]] = {
    ns.BOOKMARKS: _PRIVATE_LIST,
    ns.BOOKMARKS_LEGACY: _PRIVATE_DEFAULT,
    ns.DISPLAYED_SYNC: _PRIVATE_LIST,
}
"""Nodes of accounts that are never for others, with the configuration they begin with (XEP-0402 s3.3, XEP-0411 s5,
XEP-0490 s7)."""
_FIELDS: Final = frozenset(one.name for one in fields(NodeConfig))


class NodeConfigChange(Mapping[str, Any]):
    """Some fields of a `NodeConfig` with values, by the names it has: ``NodeConfigChange(max_items=None)``.

    On publication these are the publish-options (XEP-0060 s7.1.5): the configuration of a node that does not exist yet,
    a precondition for one that does. Raises TypeError for a name that is no field.
    """

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - _FIELDS
        if unknown:
            raise TypeError(f"no such configuration field: {', '.join(sorted(unknown))}")
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def applied(self, config: NodeConfig) -> NodeConfig:
        """The configuration with these values."""
        return replace(config, **self._values)

    def is_met_by(self, config: NodeConfig) -> bool:
        """Whether the configuration has all of these values already."""
        return all(getattr(config, name) == value for name, value in self._values.items())


@dataclass(frozen=True, slots=True)
class Node:
    """A node. ``id`` is the key in storage; ``created`` in seconds since the epoch."""

    id: int
    host: JID
    name: str
    config: NodeConfig
    creator: JID
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be published. ``payload`` is one serialised element that declares its own namespace, b"" for none;
    ``id`` None has one made."""

    id: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """A published item. ``published_at`` in microseconds since the epoch, growing within a node. ``payload`` as in
    `NewItem`; ``publisher`` is bare."""

    id: str
    publisher: JID
    published_at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscription:
    """An explicit subscription. ``jid`` is where notifications go, bare or full. Nobody has two for one address."""

    jid: JID
    state: SubscriptionState


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that is committed and may be told.

    ``items`` are those published (with payload), or those retracted (payload b""). ``subscribers`` are the addresses
    with an explicit subscription that may still read the node: they are told whatever else. Whoever else is told
    (XEP-0163 s4: contacts with an interest in the node) is found by the access model in ``config``; ``affiliations``
    are the bare addresses with one, for `homeserver.services.pubsub.access.may_read`. ``is_told`` is False where the
    configuration or the request wants no notification; it is then only for who follows the data. A notification has the
    payloads only where ``config.deliver_payloads`` says so.
    """

    kind: EventKind
    host: JID
    node: str
    config: NodeConfig
    items: tuple[Item, ...] = ()
    publisher: JID | None = None
    subscribers: tuple[JID, ...] = ()
    affiliations: Mapping[str, Affiliation] = field(default_factory=dict)
    subscription: Subscription | None = None
    redirect: str = ""
    is_told: bool = True
