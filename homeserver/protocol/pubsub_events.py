"""Notifications of publish-subscribe as bytes: written once, addressed to many (XEP-0060 s7.1.2, s12; XEP-0163 s4.3).

Payloads are spliced in as they are stored; nothing is parsed to be told.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from homeserver.protocol import namespaces as ns
from homeserver.protocol.forms import FORM_TYPE, Field
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import Element, element, escape_attribute, parse_stanza, serialise

_START: Final = b"<message"
_NO_STORE: Final = f"<no-store xmlns='{ns.HINTS}'/>".encode()


class EventItem(NamedTuple):
    """An item in an event: ``publisher`` None where it is not told, ``payload`` a serialised element or b""."""

    id: str
    publisher: JID | None
    payload: bytes


def items(node: str, published: Iterable[EventItem]) -> bytes:
    """Items were published (XEP-0060 s7.1.2.1, s7.1.2.2 without payload)."""
    parts = []
    for item in published:
        by = b"" if item.publisher is None else b" publisher='%b'" % _attribute(str(item.publisher))
        body = b">%b</item>" % item.payload if item.payload else b"/>"
        parts.append(b"<item id='%b'%b%b" % (_attribute(item.id), by, body))
    return _event(b"<items node='%b'>%b</items>" % (_attribute(node), b"".join(parts)))


def retracted(node: str, ids: Iterable[str]) -> bytes:
    """Items were taken out (XEP-0060 s7.2.2.1)."""
    parts = b"".join(b"<retract id='%b'/>" % _attribute(id_) for id_ in ids)
    return _event(b"<items node='%b'>%b</items>" % (_attribute(node), parts))


def purged(node: str) -> bytes:
    """All items were taken out (XEP-0060 s8.5.2)."""
    return _event(b"<purge node='%b'/>" % _attribute(node))


def deleted(node: str, redirect: str) -> bytes:
    """The node is gone; ``redirect`` is where it went, or "" (XEP-0060 s8.4.2)."""
    inner = b"<redirect uri='%b'/>" % _attribute(redirect) if redirect else b""
    return _event(b"<delete node='%b'>%b</delete>" % (_attribute(node), inner))


def configured(node: str) -> bytes:
    """The configuration changed (XEP-0060 s8.2.4)."""
    return _event(b"<configuration node='%b'/>" % _attribute(node))


def subscription(node: str, jid: JID, state: str) -> bytes:
    """An owner changed the state of a subscription (XEP-0060 s8.8.4)."""
    inner = b"<subscription node='%b' jid='%b' subscription='%b'/>"
    return _event(inner % (_attribute(node), _attribute(str(jid)), state.encode()))


def approval(node: str, jid: JID) -> bytes:
    """The form by which an owner decides about a subscription (XEP-0060 s8.6)."""
    fields = [
        Field(FORM_TYPE, [ns.PUBSUB_SUBSCRIBE_AUTHORIZATION], "hidden"),
        Field("pubsub#node", [node], "text-single", "Node"),
        Field("pubsub#subscriber_jid", [str(jid)], "jid-single", "Who asks"),
        Field("pubsub#allow", ["false"], "boolean", "Let this address subscribe to the node?"),
    ]
    form = element(ns.DATA_FORM, "x", {"type": "form"}, *(one.to_element() for one in fields))
    return serialise(form).encode()


def delayed(at: int) -> bytes:
    """When what is sent now was published, in microseconds since the epoch (XEP-0060 s6.1.7, XEP-0203)."""
    stamp = datetime.fromtimestamp(at // 1_000_000, UTC).isoformat()[:19]
    return f"<delay xmlns='{ns.DELAY}' stamp='{stamp}Z'/>".encode()


def reply_to(jid: JID) -> bytes:
    """Whom to answer (XEP-0163 s4.3.1, XEP-0033)."""
    inner = b"<address type='replyto' jid='%b'/>" % _attribute(str(jid))
    return b"<addresses xmlns='%b'>%b</addresses>" % (ns.ADDRESSES.encode(), inner)


class Notice:
    """A message of the server for many: ``kind`` is its type, "headline" or "normal"; ``content`` its serialised children.

    Unless it is ``lasting`` nobody keeps or archives it: a headline is not, of others it is said (XEP-0334).
    """

    __slots__ = ("id", "rest", "sender", "type")

    def __init__(self, sender: JID, kind: str, id_: str, *content: bytes, lasting: bool = False) -> None:
        self.sender = sender
        self.id = id_
        self.type = "" if kind == "normal" else kind
        attributes = f" from='{escape_attribute(str(sender))}' id='{escape_attribute(id_)}'"
        if self.type:
            attributes += f" type='{self.type}'"
        hint = b"" if lasting or self.type == "headline" else _NO_STORE
        self.rest = b"%b>%b%b</message>" % (attributes.encode(), b"".join(content), hint)

    def to_recipient(self, to: JID) -> "AddressedNotice":
        """The copy for one recipient."""
        return AddressedNotice(self, to)


class AddressedNotice(Stanza):
    """One recipient's copy of a `Notice`. Its tree is read from the bytes, for whoever wants it."""

    __slots__ = ("_parsed", "_rest", "_text")

    def __init__(self, notice: Notice, to: JID) -> None:
        self.sender = notice.sender
        self.to = to
        self.raw = None
        self.name = "message"
        self.type = notice.type
        self.id = notice.id
        self._rest = notice.rest
        self._text: bytes | None = None
        self._parsed: Element | None = None

    @property
    def element(self) -> Element:  # type: ignore[override]
        """The tree, with its addresses."""
        if self._parsed is None:
            self._parsed = parse_stanza(self.encode())
        return self._parsed

    def encode(self) -> bytes:
        """The stanza for a ``jabber:client`` stream; the same bytes for every session it is given to."""
        if self._text is None:
            self._text = b"%b to='%b'%b" % (_START, _attribute(str(self.to)), self._rest)
        return self._text


def _attribute(text: str) -> bytes:
    return escape_attribute(text).encode()


def _event(inner: bytes) -> bytes:
    return b"<event xmlns='%b'>%b</event>" % (ns.PUBSUB_EVENT.encode(), inner)
