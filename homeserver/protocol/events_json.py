"""Message stanzas as JSON events, both ways, without loss.

The members of an event are what most messages have. Whatever else a stanza holds travels as text under ``xml``, and
unknown attributes under ``attributes``, so that `to_element` makes an equal stanza of what `from_element` gave. Only the
order between children of different kinds is not kept; it has no meaning (RFC 6120 s11.7).
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from xml.etree.ElementTree import ParseError, XMLPullParser

from msgspec import Meta, Struct, field

from homeserver.protocol import namespaces as ns
from homeserver.protocol.stanza import LANG, MESSAGE
from homeserver.protocol.xml import Element, element, fits_xml, serialise

MAX_DEPTH: Final = 30
MAX_XML: Final = 262_144
KINDS: Final = ("normal", "chat", "groupchat", "headline", "error")

_BODY: Final = f"{{{ns.CLIENT}}}body"
_THREAD: Final = f"{{{ns.CLIENT}}}thread"
_REPLY: Final = f"{{{ns.REPLY}}}reply"
_ORIGIN: Final = f"{{{ns.STANZA_ID}}}origin-id"
_ID_ONLY: Final = {"id"}
_NAMING: Final = {
    f"{{{ns.CORRECTION}}}replace": "replaces",
    f"{{{ns.RETRACTION}}}retract": "retracts",
    f"{{{ns.CHAT_MARKERS}}}displayed": "displayed",
    f"{{{ns.RECEIPTS}}}received": "delivered",
}
"""Elements that hold nothing but the id of another message, and their members."""
_REACTIONS: Final = f"{{{ns.REACTIONS}}}reactions"
_REACTION: Final = f"{{{ns.REACTIONS}}}reaction"
_RETRACTED: Final = f"{{{ns.RETRACTION}}}retracted"


class Reply(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The message this one answers (XEP-0461): its id there and, where known, who sent it."""

    id: Annotated[str, Meta(min_length=1, max_length=1023)]
    to: Annotated[str, Meta(max_length=3071)] | None = None


class Reaction(Struct, frozen=True):
    """All reactions of the sender to the message ``to`` (XEP-0444)."""

    to: str
    emojis: list[str]


class Retracted(Struct, frozen=True, omit_defaults=True):
    """What is left of a message that was taken back (XEP-0424 s4): by which message, and when."""

    id: str
    at: str | None = None


class MessageEvent(Struct, omit_defaults=True):
    """A message as its owner sees it.

    ``id`` is the message's number and position, ``conversation`` the other side's bare JID. ``client_id`` is the id its
    sender gave it for good (XEP-0359 origin-id), ``stanza_id`` the id attribute of the stanza. ``replaces`` (XEP-0308),
    ``retracts`` (XEP-0424), ``displayed`` (XEP-0333), ``delivered`` (XEP-0184) and ``reaction`` name another message of the
    conversation by its ``stanza_id``; the first two count for messages of the same sender only.
    """

    id: int
    conversation: str
    from_: str = field(name="from")
    to: str
    kind: Literal["normal", "chat", "groupchat", "headline", "error"]
    direction: Literal["incoming", "outgoing", "to_self"]
    sent_at: str
    client_id: str | None = None
    stanza_id: str | None = None
    text: str | None = None
    thread: str | None = None
    reply_to: Reply | None = None
    lang: str | None = None
    replaces: str | None = None
    retracts: str | None = None
    displayed: str | None = None
    delivered: str | None = None
    reaction: Reaction | None = None
    retracted: Retracted | None = None
    attributes: dict[str, str] = {}
    xml: list[str] = []


class Place(Struct, frozen=True):
    """What an event says beyond its stanza; ``at`` is microseconds since the epoch."""

    id: int
    at: int
    conversation: str
    direction: Literal["incoming", "outgoing", "to_self"]


def from_element(message: Element, place: Place) -> MessageEvent:
    """The event of a ``<message/>`` in ``jabber:client``."""
    attributes = dict(message.attrib)
    kind = attributes.pop("type", "normal")
    event = MessageEvent(
        id=place.id,
        conversation=place.conversation,
        from_=attributes.pop("from", ""),
        to=attributes.pop("to", ""),
        kind=kind if kind in KINDS else "normal",  # type: ignore[arg-type]  # RFC 6121 s5.2.2
        direction=place.direction,
        sent_at=timestamp(place.at),
        stanza_id=attributes.pop("id", None),
        lang=attributes.pop(LANG, None),
        attributes=attributes,
        xml=[],
    )
    for part in message:
        if not _take(part, event):
            event.xml.append(serialise(_alone(part), ""))
    return event


def _take(part: Element, event: MessageEvent) -> bool:
    """Put a child into its member; False where it must travel as it is."""
    if part.tag == _REACTIONS:
        return _take_reactions(part, event)
    if len(part):
        return False
    plain = not part.attrib
    if part.tag == _BODY and plain and event.text is None:
        event.text = part.text or ""
        return True
    if part.tag == _THREAD and plain and event.thread is None:
        event.thread = part.text or ""
        return True
    if part.text:
        return False
    if part.tag == _ORIGIN and part.attrib.keys() == _ID_ONLY and event.client_id is None:
        event.client_id = part.get("id")
        return True
    member = _NAMING.get(part.tag)
    if member is not None and part.attrib.keys() == _ID_ONLY and part.get("id") and getattr(event, member) is None:
        setattr(event, member, part.get("id"))
        return True
    if part.tag == _RETRACTED and event.retracted is None and part.get("id") and part.attrib.keys() <= {"id", "stamp"}:
        event.retracted = Retracted(part.get("id", ""), part.get("stamp"))
        return True
    if part.tag == _REPLY and event.reply_to is None and part.get("id") and part.attrib.keys() <= {"id", "to"}:
        event.reply_to = Reply(part.get("id", ""), part.get("to"))
        return True
    return False


def _take_reactions(part: Element, event: MessageEvent) -> bool:
    fits = event.reaction is None and part.get("id") and part.attrib.keys() == _ID_ONLY and not part.text
    if not fits or any(one.tag != _REACTION or one.attrib or len(one) or one.tail for one in part):
        return False
    event.reaction = Reaction(part.get("id", ""), [one.text or "" for one in part])
    return True


def to_element(event: MessageEvent) -> Element:
    """The ``<message/>`` of an event. Raises `InvalidEvent` where a member cannot be said in XML."""
    attributes = dict(event.attributes)
    for name, value in (("from", event.from_), ("to", event.to), ("id", event.stanza_id), (LANG, event.lang)):
        if value:
            attributes[name] = value
    if event.kind != "normal":
        attributes["type"] = event.kind
    message = Element(MESSAGE, attributes)
    if event.text is not None:
        message.append(element(ns.CLIENT, "body", None, event.text))
    if event.thread is not None:
        message.append(element(ns.CLIENT, "thread", None, event.thread))
    if event.client_id is not None:
        message.append(element(ns.STANZA_ID, "origin-id", {"id": event.client_id}))
    if event.reply_to is not None:
        more = {} if event.reply_to.to is None else {"to": event.reply_to.to}
        message.append(element(ns.REPLY, "reply", {"id": event.reply_to.id, **more}))
    _append_named(message, event)
    for text in event.xml:
        message.append(fragment(text))
    check(message)
    return message


def _append_named(message: Element, event: MessageEvent) -> None:
    """The parts that name another message."""
    for tag, member in _NAMING.items():
        named = getattr(event, member)
        if named is not None:
            message.append(Element(tag, {"id": named}))
    if event.reaction is not None:
        part = Element(_REACTIONS, {"id": event.reaction.to})
        part.extend(element(ns.REACTIONS, "reaction", None, emoji) for emoji in event.reaction.emojis)
        message.append(part)
    if event.retracted is not None:
        more = {} if event.retracted.at is None else {"stamp": event.retracted.at}
        message.append(Element(_RETRACTED, {"id": event.retracted.id, **more}))


class InvalidEvent(ValueError):
    """The event cannot be made a stanza; the text says why."""


def fragment(text: str) -> Element:
    """The element written in ``text``, which declares its namespace. Raises `InvalidEvent`.

    Declarations, comments and processing instructions are refused (RFC 6120 s11.1), so no entity is ever defined.
    """
    if len(text) > MAX_XML:
        raise InvalidEvent(f"an xml item is longer than {MAX_XML} characters")
    if "<!" in text or "<?" in text:
        raise InvalidEvent("an xml item holds a declaration, comment or processing instruction")
    found = _parse(text)
    if not found.tag.startswith("{"):
        raise InvalidEvent("an xml item has no namespace")
    return found


def stanza_element(payload: bytes) -> Element:
    """The message of a stored payload, whose default namespace is ``jabber:client``."""
    if payload.startswith(b"<message xmlns="):
        return _parse(payload.decode())
    return _parse(f"<message xmlns='{ns.CLIENT}'" + payload[len(b"<message") :].decode())


def check(root: Element) -> None:
    """Refuse what XML 1.0 cannot carry (s2.2) and what is nested too deep. Raises `InvalidEvent`."""
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidEvent(f"elements are nested more than {MAX_DEPTH} deep")
        below: list[Element] = []
        for node in level:
            for text in (node.text, node.tail, *node.attrib.values()):
                if text and not fits_xml(text):
                    raise InvalidEvent("a text holds a character that XML does not allow")
            below.extend(node)
        level = below


def timestamp(at: int) -> str:
    """Microseconds since the epoch as RFC 3339 text in UTC."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _parse(text: str) -> Element:
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
    depth, root = 0, None
    try:
        # Fed in pieces so that nesting is refused before the whole of it stands in memory.
        for start in range(0, len(text), 4096):
            parser.feed(text[start : start + 4096])
            for what, node in parser.read_events():  # type: ignore[misc]  # pairs, as asked for
                depth += 1 if what == "start" else -1
                root = node
                if depth > MAX_DEPTH:
                    raise InvalidEvent(f"elements are nested more than {MAX_DEPTH} deep")
        parser.close()
    except ParseError as error:
        raise InvalidEvent("an xml item is not well-formed") from error
    if not isinstance(root, Element):
        raise InvalidEvent("an xml item holds no element")
    return root


def _alone(part: Element) -> Element:
    """The element without the text behind it, which belongs to its parent."""
    copy = Element(part.tag, part.attrib)
    copy.text = part.text
    copy.extend(part)
    return copy
