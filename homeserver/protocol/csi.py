"""What may wait while nobody looks at a client (XEP-0352).

`classify` says of one outgoing stanza whether it wakes the client, may wait, or is worth nothing any more once the next
of its kind comes. `InactiveQueue` holds what waits, in order; a stanza that wakes takes everything before it along, so
that order is kept (XEP-0352 s5.1).
"""

from enum import Enum, auto
from typing import Final, NamedTuple

from homeserver.protocol import namespaces as ns
from homeserver.protocol.sm import SentItem
from homeserver.protocol.stanza import IQ, MESSAGE
from homeserver.protocol.xml import Element

_CONTENT: Final = frozenset(
    f"{{{namespace}}}{name}"
    for namespace, name in (
        (ns.CLIENT, "body"),
        (ns.CLIENT, "subject"),
        (ns.ENCRYPTION, "encryption"),
        (ns.OMEMO, "encrypted"),
        (ns.OMEMO_LEGACY, "encrypted"),
        (ns.OPENPGP, "openpgp"),
        (ns.OPENPGP_LEGACY, "x"),
        (ns.RETRACTION, "retract"),
        (ns.REACTIONS, "reactions"),
        (ns.CONFERENCE, "x"),
        (ns.MUC_USER, "x"),
    )
)
_CARBONS: Final = frozenset((f"{{{ns.CARBONS}}}received", f"{{{ns.CARBONS}}}sent"))
_FORWARDED: Final = f"{{{ns.FORWARD}}}forwarded"
_CALLS: Final = "{" + ns.JINGLE_MESSAGE + "}"
_CHAT_STATES: Final = "{" + ns.CHAT_STATES + "}"
_MUC_USER: Final = f"{{{ns.MUC_USER}}}x"
_STATUS: Final = f"{{{ns.MUC_USER}}}status"
_EVENT: Final = f"{{{ns.PUBSUB_EVENT}}}event"
_SENT: Final = f"{{{ns.CARBONS}}}sent"


class Urgency(Enum):
    """What may be done with a stanza for an inactive client."""

    FLUSH = auto()
    """Send it now, and all that waits before it."""
    HOLD = auto()
    """It may wait."""
    REPLACE = auto()
    """It may wait, and takes the place of what has the same key."""
    DROP = auto()
    """Worth nothing later."""


class Class(NamedTuple):
    """An urgency, and for REPLACE the key."""

    urgency: Urgency
    key: str = ""


_FLUSH: Final = Class(Urgency.FLUSH)
_HOLD: Final = Class(Urgency.HOLD)
_DROP: Final = Class(Urgency.DROP)


def classify(stanza: Element) -> Class:
    """Decide about one outgoing stanza.

    Presence waits and is replaced per full JID, except requests and answers of subscription, errors, and what a group
    says of the client itself (XEP-0045 status codes). IQs never wait. A message wakes if it has content or concerns a
    call; a lone chat state is dropped; receipts and markers wait. So do notifications, each for the newest of its item. A carbon is judged by what it holds,
    but a copy of what the account sent itself waits.
    """
    tag = stanza.tag
    if tag == IQ:
        return _FLUSH
    if tag == MESSAGE:
        return _message(stanza)
    kind = stanza.get("type", "")
    if kind not in ("", "unavailable"):
        return _FLUSH
    group = stanza.find(_MUC_USER)
    if group is not None and group.find(_STATUS) is not None:
        return _FLUSH
    return Class(Urgency.REPLACE, stanza.get("from", ""))


def _message(stanza: Element) -> Class:
    if stanza.get("type") == "error":
        return _FLUSH
    states = 0
    event: Element | None = None
    for part in stanza:
        tag = part.tag
        if tag in _CONTENT or tag.startswith(_CALLS):
            return _FLUSH
        if tag in _CARBONS:
            inner = part.find(f"{_FORWARDED}/{MESSAGE}")
            found = _HOLD if inner is None else _message(inner)
            return _HOLD if found is _FLUSH and tag == _SENT else found
        if tag.startswith(_CHAT_STATES):
            states += 1
        elif tag == _EVENT:
            event = part
    if event is not None:
        return _event(stanza.get("from", ""), event)
    return _DROP if states and not _has_more(stanza) else _HOLD


def _event(sender: str, event: Element) -> Class:
    """A notification of one item takes the place of an earlier one of the same item (XEP-0060 s7.1.2, s7.2.2).

    What is encrypted afterwards may need it, but wakes, and takes it along.
    """
    if len(event) != 1 or len(event[0]) != 1:
        return _HOLD
    items, item = event[0], event[0][0]
    return Class(Urgency.REPLACE, f"{sender} {items.get('node', '')} {item.get('id', '')}")


def _has_more(stanza: Element) -> bool:
    """Whether something besides chat states, hints and ids is in a message."""
    light = (_CHAT_STATES, "{" + ns.HINTS + "}", "{" + ns.STANZA_ID + "}", f"{{{ns.CLIENT}}}thread")
    return any(not part.tag.startswith(light) for part in stanza)


class InactiveQueue:
    """What waits for one inactive client, oldest first.

    ``max_items`` and ``max_bytes`` bound it: when `add` answers True, everything must go out.
    """

    __slots__ = ("_items", "_next", "_size", "max_bytes", "max_items")

    def __init__(self, max_items: int = 200, max_bytes: int = 256 * 1024) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self._items: dict[str | int, SentItem] = {}
        self._next = 0
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, found: Class, item: SentItem) -> bool:
        """Keep one stanza as its class says; returns whether the queue must be flushed now."""
        if found.urgency is Urgency.DROP:
            return False
        key: str | int = found.key
        if found.urgency is not Urgency.REPLACE or not found.key:
            key = self._next
            self._next += 1
        replaced = self._items.pop(key, None)
        self._items[key] = item
        self._size += len(item.data) - (len(replaced.data) if replaced is not None else 0)
        return found.urgency is Urgency.FLUSH or len(self._items) > self.max_items or self._size > self.max_bytes

    def take(self) -> list[SentItem]:
        """Empty the queue; returns what waited, oldest first."""
        items = list(self._items.values())
        self._items.clear()
        self._size = 0
        return items
