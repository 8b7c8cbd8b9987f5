"""Messages as the services see them, and what becomes of them."""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from homeserver.domain.search import Query
from homeserver.protocol.jid import JID


class Kind(IntEnum):
    """The type of a message (RFC 6121 s5.2.2)."""

    NORMAL = 0
    CHAT = 1
    GROUPCHAT = 2
    HEADLINE = 3
    ERROR = 4


class Alert(IntEnum):
    """What a message is worth to a device that is not connected: NONE wakes nobody, CONTENT is something to read, CALL is
    somebody calling now."""

    NONE = 0
    CONTENT = 1
    CALL = 2


class Treatment(IntFlag):
    """What may be done with a message; decided once, when it enters.

    ARCHIVE: entries in the owners' archives. KEEP: waits for a recipient who is away (XEP-0160). COPY: goes to the
    other sessions of both accounts (XEP-0280 s6). DURABLE: crosses domains in the durable lane.

    What it is, for those who count and look up: INSTANT says something to be read (XEP-0430 s4), RETRACTION takes back
    another (XEP-0424), DISPLAYED says up to where its sender has read (XEP-0333), RETRACTED was taken back and holds a
    tombstone only.
    """

    ARCHIVE = 1
    KEEP = 2
    COPY = 4
    DURABLE = 8
    INSTANT = 16
    RETRACTION = 32
    DISPLAYED = 64
    RETRACTED = 128


ARCHIVE: Final = int(Treatment.ARCHIVE)
"""The same as plain integers: a member's arithmetic costs a microsecond, and every message asks six times."""
KEEP: Final = int(Treatment.KEEP)
COPY: Final = int(Treatment.COPY)
DURABLE: Final = int(Treatment.DURABLE)
INSTANT: Final = int(Treatment.INSTANT)
RETRACTION: Final = int(Treatment.RETRACTION)
DISPLAYED: Final = int(Treatment.DISPLAYED)


@dataclass(slots=True)
class Message:
    """A message on its way.

    ``payload`` is the stanza as any ``jabber:client`` stream may carry it, from and to included, without our
    ``<stanza-id/>``. ``treatment`` holds flags of `Treatment` as a plain integer. ``stanza_id`` is the sender's id attribute, ``origin_id`` that of XEP-0359 (either may be None). ``alert`` is one of `Alert`.
    """

    sender: JID
    to: JID
    kind: Kind
    treatment: int
    stanza_id: str | None
    origin_id: str | None
    payload: bytes
    alert: int = 0


@dataclass(slots=True)
class Stored:
    """A message with its place: ``id`` is archive id and position (0 where it is not stored), ``at`` microseconds
    since the epoch. ``rendered`` keeps its wire form per owner, so that many sessions cost one rendering."""

    id: int
    at: int
    message: Message
    rendered: dict[str, bytes] = field(default_factory=dict)


class Relation(IntEnum):
    """Why a session is given a message: addressed to it, or a copy of what another session sent or received."""

    DIRECT = 0
    SENT_ELSEWHERE = 1
    RECEIVED_ELSEWHERE = 2


class Direction(IntEnum):
    """Of an archive entry, as its owner sees it."""

    INCOMING = 0
    OUTGOING = 1
    TO_SELF = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in one owner's archive. ``peer`` is the other side's bare JID."""

    id: int
    at: int
    peer: str
    direction: Direction
    kind: Kind
    stanza_id: str | None
    payload: bytes
    treatment: int = int(Treatment.ARCHIVE)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A slice of one owner's archive (XEP-0313 s4, XEP-0059).

    Ids are exclusive bounds, times inclusive microseconds. ``backwards`` takes the newest first to fill the page; the
    page itself is always oldest first. ``words`` is what the text must hold.
    """

    limit: int
    peer: str | None = None
    after: int | None = None
    before: int | None = None
    start: int | None = None
    end: int | None = None
    ids: tuple[int, ...] | None = None
    backwards: bool = False
    words: Query | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries oldest first; ``complete`` when nothing is left in the direction of paging."""

    entries: list[Entry]
    complete: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an owner has with one peer (bare JID).

    ``last`` is the newest entry, ``shown`` the newest that says something to be read, if it is among the newest few;
    ``unread`` counts received ones behind both the read position ``read`` and the owner's own last message.
    """

    peer: str
    last: Entry
    shown: Entry | None = None
    unread: int = 0
    read: int = 0


class Then(Protocol):
    """Called on the loop when the commit that holds the work is durable (None) or failed (the error)."""

    def __call__(self, error: BaseException | None, /) -> None: ...
