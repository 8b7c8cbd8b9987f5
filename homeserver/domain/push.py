"""Push notifications (XEP-0357): where a device is woken from, and what is said there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from homeserver.domain.errors import BadRequest, NotAcceptable
from homeserver.protocol import forms
from homeserver.protocol import namespaces as ns
from homeserver.protocol.forms import Field
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import Element, element

MAX_NODE: Final = 1024
MAX_FIELDS: Final = 32
MAX_OPTIONS: Final = 8192
"""Characters of all names and values of the publish options."""

_TRANSIENT: Final = frozenset(("internal-server-error", "remote-server-not-found", "remote-server-timeout"))

Options = tuple[tuple[str, tuple[str, ...]], ...]
"""Fields of the form with which an app server wants to be written to: name and values, in order."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One node of an app server that an account enabled.

    ``device`` is the device of the JSON API that did, ``client`` the id that an XMPP client gave of itself (XEP-0388
    s2.3); it ends with them. ``failures`` counts notifications in a row that the app server did not take.
    """

    account: int
    service: JID
    node: str
    options: Options = ()
    device: str | None = None
    client: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a notification says (XEP-0357 s10.3.1); ``sender`` and ``body`` are None where they are not told."""

    messages: int
    requests: int
    sender: str | None = None
    body: str | None = None


def checked_node(node: str | None) -> str:
    """The node of an app server. Raises `BadRequest` where there is none, `NotAcceptable` for one that is too long."""
    if not node:
        raise BadRequest("A node of the app server is needed")
    if len(node) > MAX_NODE:
        raise NotAcceptable("The name of the node is too long")
    return node


def checked_options(fields: Iterable[tuple[str, Iterable[str]]]) -> Options:
    """The fields of publish options, less FORM_TYPE. Raises `NotAcceptable` for more than is kept."""
    options = tuple((name, tuple(values)) for name, values in fields if name != forms.FORM_TYPE)
    size = sum(len(name) + sum(map(len, values)) for name, values in options)
    if len(options) > MAX_FIELDS or size > MAX_OPTIONS:
        raise NotAcceptable("There are too many publish options, or they are too long")
    return options


def publish(registration: Registration, summary: Summary) -> Element:
    """The payload of the IQ to the app server (XEP-0357 s7, XEP-0060 s7.1.5)."""
    told = [
        Field("message-count", (str(summary.messages),)),
        Field("pending-subscription-count", (str(summary.requests),)),
    ]
    if summary.sender is not None:
        told.append(Field("last-message-sender", (summary.sender,)))
    if summary.body is not None:
        told.append(Field("last-message-body", (summary.body,)))
    form = forms.build("submit", ns.PUSH_SUMMARY, told)
    item = element(ns.PUBSUB, "item", None, element(ns.PUSH, "notification", None, form))
    made = element(ns.PUBSUB, "pubsub", None, element(ns.PUBSUB, "publish", {"node": registration.node}, item))
    if registration.options:
        fields = [Field(name, values) for name, values in registration.options]
        options = forms.build("submit", ns.PUBSUB_PUBLISH_OPTIONS, fields)
        made.append(element(ns.PUBSUB, "publish-options", None, options))
    return made


def is_transient(condition: str, kind: str) -> bool:
    """Whether an app server that answered with this error may take the next notification (XEP-0357 s7.1).

    ``condition`` and ``kind`` are those of the stanza error (RFC 6120 s8.3.2, s8.3.3).
    """
    return kind == "wait" or condition in _TRANSIENT
