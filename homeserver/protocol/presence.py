"""Presence stanzas: building them, reading priorities, and one text for many recipients (RFC 6121 s4)."""

from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import PRESENCE, Stanza
from homeserver.protocol.xml import Element, escape_attribute, serialise

_PRIORITY: Final = "{" + ns.CLIENT + "}priority"
_SHOW: Final = f"{{{ns.CLIENT}}}show"
_STATUS: Final = "{" + ns.CLIENT + "}status"
_START: Final = b"<presence"


def presence(kind: str, sender: JID, to: JID, stanza_id: str | None = None, *content: Element) -> Stanza:
    """A presence of type ``kind`` ("" for available) made by the server."""
    made = Element(PRESENCE)
    if kind:
        made.set("type", kind)
    if stanza_id is not None:
        made.set("id", stanza_id)
    made.extend(content)
    return Stanza(made, sender, to)


def readdressed(stanza: Stanza, sender: JID, to: JID) -> Stanza:
    """The same stanza with other addresses; its content is shared, not copied."""
    attributes = {key: value for key, value in stanza.element.items() if key not in ("from", "to")}
    made = Element(stanza.element.tag, attributes)
    made.text = stanza.element.text
    made.extend(stanza.element)
    return Stanza(made, sender, to)


def priority_of(element: Element) -> int:
    """The priority a presence asks for, 0 where it says nothing (RFC 6121 s4.7.2.3).

    Raises ValueError where it is not one integer from -128 to 127.
    """
    found = element.findall(_PRIORITY)
    if not found:
        return 0
    text = (found[0].text or "").strip()
    digits = text[1:] if text[:1] in ("-", "+") else text
    if len(found) > 1 or not (digits.isascii() and digits.isdigit() and len(digits) <= 3):
        raise ValueError("priority is not one integer")
    value = int(text)
    if not -128 <= value <= 127:
        raise ValueError("priority is outside -128..127")
    return value


def show_of(element: Element) -> str:
    """What a presence says of availability (RFC 6121 s4.7.2.1): ``away``, ``chat``, ``dnd``, ``xa``, "" for plainly there."""
    found = element.find(_SHOW)
    return "" if found is None else (found.text or "").strip()


def status_of(element: Element) -> str:
    """The first status text of a presence, or ""."""
    found = element.find(_STATUS)
    return "" if found is None else found.text or ""


class Broadcast(Stanza):
    """A presence that goes to many: serialised once, ``to`` is put into the text for each recipient.

    ``sender`` is the full JID it comes from; it has no ``to`` of its own. ``said`` is what the client sent, where the
    server added to it.
    """

    __slots__ = ("_rest", "said")

    def __init__(self, element: Element, sender: JID, said: Element | None = None) -> None:
        attributes = {"from": str(sender)}
        attributes.update((key, value) for key, value in element.items() if key not in ("from", "to"))
        copy = Element(PRESENCE, attributes)
        copy.text = element.text
        copy.extend(element)
        super().__init__(copy, sender, None)
        self._rest = serialise(copy).encode()[len(_START) :]
        self.said = element if said is None else said

    def to_recipient(self, to: JID) -> "Addressed":
        """The copy for one recipient."""
        return Addressed(self, to)

    def encode(self) -> bytes:
        return _START + self._rest


class Addressed(Stanza):
    """One recipient's copy of a `Broadcast`; the element is shared and has no ``to``."""

    __slots__ = ("_rest", "_text")

    def __init__(self, broadcast: Broadcast, to: JID) -> None:
        self.element = broadcast.element
        self.id = broadcast.id
        self.name = broadcast.name
        self.raw = None
        self.sender = broadcast.sender
        self.to = to
        self.type = broadcast.type
        self._rest = broadcast._rest
        self._text: bytes | None = None

    def encode(self) -> bytes:
        """The stanza for a ``jabber:client`` stream; the same bytes for every session it is given to."""
        if self._text is None:
            self._text = b"%b to='%b'%b" % (_START, escape_attribute(str(self.to)).encode(), self._rest)
        return self._text
