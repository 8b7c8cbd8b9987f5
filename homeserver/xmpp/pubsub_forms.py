"""The data forms of publish-subscribe: configuration, publish-options, meta-data (XEP-0060 s15.4)."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from homeserver.domain.errors import BadRequest, DomainError, NotAcceptable
from homeserver.domain.pubsub import (
    AccessModel,
    Affiliation,
    ItemReply,
    NodeConfig,
    NodeConfigChange,
    PublishModel,
    SendLast,
)
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.forms import Field, Form
from homeserver.protocol.xml import Element
from homeserver.services.pubsub import refusals
from homeserver.storage.pubsub_shapes import StoredNode

MAX: Final = "max"
_PREFIX: Final = "pubsub#"
_MAX_NUMBER: Final = 2**40
Choice = TypeVar("Choice", bound=StrEnum)


class _Entry(NamedTuple):
    """One field of the configuration: its name in `NodeConfig`, type, label, and how values are read and written."""

    attribute: str
    type: str
    label: str
    read: Callable[[Sequence[str]], Any]
    write: Callable[[Any], Sequence[str]]
    options: tuple[str, ...] = ()


def _flag(values: Sequence[str]) -> bool:
    if values[:1] in (["1"], ["true"]):
        return True
    if values[:1] in (["0"], ["false"]):
        return False
    raise NotAcceptable("neither true nor false")


def _number(values: Sequence[str]) -> int:
    text = values[0].strip() if values else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 0 < int(text) <= _MAX_NUMBER):
        raise NotAcceptable("not a number above 0")
    return int(text)


def _number_or_max(values: Sequence[str]) -> int | None:
    return None if not values or values[0].strip() in ("", MAX) else _number(values)


def _text(values: Sequence[str]) -> str:
    return "\n".join(values)


def _groups(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _choice(kind: type[Choice], refusal: Callable[[], DomainError] | None = None) -> Callable[[Sequence[str]], Choice]:
    def read(values: Sequence[str]) -> Choice:
        try:
            return kind(values[0] if values else "")
        except ValueError as error:
            raise refusal() if refusal else NotAcceptable("no such choice") from error

    return read


def _reply(values: Sequence[str]) -> ItemReply | None:
    return _choice(ItemReply)(values) if values and values[0] else None


def _notification(values: Sequence[str]) -> str:
    if values[:1] in (["normal"], ["headline"]):
        return values[0]
    raise NotAcceptable("no such type of message")


def _one(value: Any) -> Sequence[str]:
    return (str(value),) if value else ()


def _bool(value: bool) -> Sequence[str]:
    return ("1",) if value else ("0",)


def _or_max(value: int | None) -> Sequence[str]:
    return (MAX,) if value is None else (str(value),)


def _options(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(one.value for one in kind)


FIELDS: Final[dict[str, _Entry]] = {
    "title": _Entry("title", "text-single", "Name of the node", _text, _one),
    "description": _Entry("description", "text-single", "What the node is about", _text, _one),
    "type": _Entry("type", "text-single", "Type of the payload, usually its namespace", _text, _one),
    "access_model": _Entry(
        "access_model", "list-single", "Who may subscribe and read",
        _choice(AccessModel, refusals.unsupported_access_model), _one, _options(AccessModel),
    ),
    "roster_groups_allowed": _Entry(
        "roster_groups", "text-multi", "Roster groups that may subscribe and read", _groups, tuple
    ),
    "publish_model": _Entry(
        "publish_model", "list-single", "Who may publish", _choice(PublishModel), _one, _options(PublishModel)
    ),
    "max_items": _Entry(
        "max_items", "text-single", "Items that are kept; `max` for as many as the server allows", _number_or_max, _or_max
    ),
    "persist_items": _Entry("persist_items", "boolean", "Keep items", _flag, _bool),
    "item_expire": _Entry(
        "item_expire", "text-single", "Seconds after which items go; `max` for never", _number_or_max, _or_max
    ),
    "max_payload_size": _Entry(
        "max_payload_size", "text-single", "Bytes of the largest payload", _number_or_max, _or_max
    ),
    "deliver_notifications": _Entry("deliver_notifications", "boolean", "Tell subscribers of events", _flag, _bool),
    "deliver_payloads": _Entry("deliver_payloads", "boolean", "Payloads are part of notifications", _flag, _bool),
    "notify_config": _Entry("notify_config", "boolean", "Tell of a new configuration", _flag, _bool),
    "notify_delete": _Entry("notify_delete", "boolean", "Tell of the end of the node", _flag, _bool),
    "notify_retract": _Entry("notify_retract", "boolean", "Tell of items taken out", _flag, _bool),
    "notification_type": _Entry(
        "notification_type", "list-single", "Type of the messages that tell", _notification, _one, ("headline", "normal")
    ),
    "send_last_published_item": _Entry(
        "send_last", "list-single", "When the newest item is sent again", _choice(SendLast), _one, _options(SendLast)
    ),
    "itemreply": _Entry(
        "item_reply", "list-single", "Who receives replies to items", _reply, _one, _options(ItemReply)
    ),
}  # fmt: skip

FIXED: Final = {
    "node_type": ("leaf",),
    "purge_offline": ("0", "false"),
    "notify_sub": ("0", "false"),
    "tempsub": ("0", "false"),
    "subscribe": ("1", "true"),
    "presence_based_delivery": ("0", "false", "1", "true"),
    "publish_node_full": ("retract-oldest", "discard-oldest"),
}
"""Fields that have one value here; as a publish-option they are met by it."""


def change(form: Form | None) -> NodeConfigChange:
    """What a submitted configuration changes; fields that are unknown here are passed over (XEP-0060 s8.2.4).

    Raises `NotAcceptable` for a value that is none, `BadRequest` for a form of another type.
    """
    if form is None or form.type == "cancel":
        return NodeConfigChange()
    if form.form_type not in ("", ns.PUBSUB_NODE_CONFIG):
        raise BadRequest("the form is of another type")
    return _read(form, strict=False)


def publish_options(form: Form | None) -> NodeConfigChange | None:
    """The options of a publication (XEP-0060 s7.1.5): an unknown field cannot be met.

    Raises as `change`, and `Conflict` for unknown fields.
    """
    if form is None:
        return None
    if form.form_type != ns.PUBSUB_PUBLISH_OPTIONS:
        raise BadRequest("the form is of another type")
    return _read(form, strict=True)


def _read(form: Form, strict: bool) -> NodeConfigChange:
    values: dict[str, Any] = {}
    for var, given in form.fields.items():
        name = var.removeprefix(_PREFIX) if var.startswith(_PREFIX) else ""
        entry = FIELDS.get(name)
        if entry is not None:
            values[entry.attribute] = entry.read(given)
        elif strict and var != forms.FORM_TYPE and not (given and given[0] in FIXED.get(name, ())):
            raise refusals.precondition_not_met()
    return NodeConfigChange(**values)


def configuration(config: NodeConfig, has_contacts: bool) -> Element:
    """The form an owner is given; a node of an account ``has_contacts`` to base its access on."""
    return forms.build("form", ns.PUBSUB_NODE_CONFIG, list(_fields(config, has_contacts)))


def _fields(config: NodeConfig, has_contacts: bool) -> list[Field]:
    made = []
    for name, entry in FIELDS.items():
        options = entry.options
        if not has_contacts:
            if name == "roster_groups_allowed":
                continue
            options = tuple(one for one in options if one not in (AccessModel.PRESENCE, AccessModel.ROSTER))
        values = entry.write(getattr(config, entry.attribute))
        made.append(Field(_PREFIX + name, values, entry.type, entry.label, [(option, "") for option in options]))
    return made


def meta_data(stored: StoredNode, affiliations: dict[str, Affiliation]) -> Element:
    """What everybody may know who sees the node (XEP-0060 s5.4)."""
    node, config = stored.node, stored.node.config
    created = datetime.fromtimestamp(int(node.created), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def of(*wanted: Affiliation) -> list[str]:
        return sorted(who for who, held in affiliations.items() if held in wanted)

    found = [
        Field("pubsub#type", _one(config.type), "text-single"),
        Field("pubsub#title", _one(config.title), "text-single"),
        Field("pubsub#description", _one(config.description), "text-single"),
        Field("pubsub#creator", (node.creator.bare,), "jid-single"),
        Field("pubsub#creation_date", (created,), "text-single"),
        Field("pubsub#access_model", (config.access_model.value,), "list-single"),
        Field("pubsub#publish_model", (config.publish_model.value,), "list-single"),
        Field("pubsub#max_items", _or_max(config.max_items), "text-single"),
        Field("pubsub#owner", of(Affiliation.OWNER), "jid-multi"),
        Field("pubsub#publisher", of(Affiliation.PUBLISHER, Affiliation.PUBLISH_ONLY), "jid-multi"),
        Field("pubsub#num_subscribers", (str(len(stored.subscriptions)),), "text-single"),
    ]
    return forms.build("result", ns.PUBSUB_META_DATA, [field for field in found if field.values])
