"""What a session is given from its mailbox: waiting messages, or all it missed while the server was away."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from xml.sax.saxutils import unescape

from homeserver.domain.messages import Direction, Entry, Message, Relation, Stored, Treatment
from homeserver.domain.sessions import Session
from homeserver.protocol.jid import JID
from homeserver.protocol.xml import parse_stanza

_ADDRESS: Final = re.compile(rb" (from|to)=(?:'([^']*)'|\"([^\"]*)\")")


class Unreadable(Exception):
    """A message that cannot be given to anybody: its id."""


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier process knew of a session that returned.

    ``resource`` is the one it had; ``since`` the newest id when its stream began: what is older and comes to it had
    waited for it. ``acknowledged`` stanzas, up to the message ``position``, were acknowledged when that was last written, and
    ``sent`` stanzas, up to the message ``marked``, had been sent. ``received`` is the client's own count.
    """

    resource: str
    since: int
    acknowledged: int
    position: int
    sent: int
    marked: int
    received: int

    @property
    def is_partly_covered(self) -> bool:
        """Whether the client's count lies between what is written as acknowledged and what is written as sent."""
        return self.acknowledged < self.received < self.sent

    def settled(self) -> int:
        """The message up to which the client has everything, as far as the counts alone say it."""
        return max(self.position, self.marked) if self.received >= self.sent else self.position

    def covered(self, messages: int) -> int:
        """How many of ``messages``, all sent between the two written places, the client has for certain.

        Other stanzas may have been sent among them; at worst the client's count is made of those first.
        """
        others = self.sent - self.acknowledged - messages
        if others < 0:
            return 0
        return max(0, self.received - self.acknowledged - others)


@dataclass(slots=True)
class Stretch:
    """Part of a mailbox that a session is to be given: above ``after``, which moves on with what it is given, up to
    ``top``. Without ``past`` it is what waits, else what the session would have been given live."""

    after: int
    top: int
    past: Past | None = None


class Held(NamedTuple):
    """A message that came live, and how it is to be given."""

    stored: Stored
    relation: Relation
    late: bool


@dataclass(slots=True)
class Gate:
    """A session that catches up: what it is to be given, in this order, parts of its mailbox and what came live.

    ``given`` are ids that came live and were met in the mailbox too, ``bytes`` is the size of what is held.
    """

    parts: deque[Stretch | Held]
    given: set[int] = field(default_factory=set)
    bytes: int = 0

    @property
    def reached(self) -> int:
        """The id up to which the session was given everything."""
        for part in self.parts:
            if isinstance(part, Stretch):
                return part.after
            if part.stored.id:
                return part.stored.id - 1
        return 2**62

    def direct(self) -> list[Stored]:
        """What came live for the session itself."""
        return [held.stored for held in self.held() if held.relation is Relation.DIRECT]

    def held(self) -> list[Held]:
        """What came live."""
        return [part for part in self.parts if isinstance(part, Held)]


def restored(entry: Entry, owner: JID) -> Stored:
    """An archive entry as a message that can be delivered again; what waited counts as sent to the bare JID.

    Raises `Unreadable` where the store gives back something else than a message.
    """
    try:
        parse_stanza(entry.payload)
        peer = JID.parse(entry.peer)
    except (ValueError, SyntaxError, IndexError) as error:
        raise Unreadable(entry.id) from error
    sender, to = (owner.to_bare(), peer) if entry.direction is Direction.OUTGOING else (peer, owner.to_bare())
    treatment = Treatment.ARCHIVE | Treatment.KEEP | Treatment.COPY
    message = Message(sender, to, entry.kind, treatment, entry.stanza_id, None, entry.payload)
    return Stored(entry.id, entry.at, message)


def relation_to(entry: Entry, session: Session, past: Past) -> Relation | None:
    """How a session would have been given an entry, or None if not at all (RFC 6121 s8.5, XEP-0280 s6 to s8)."""
    takes = session.priority is not None and session.priority >= 0
    copies = session.wants_copies and session.priority is not None and entry.id > past.since
    own = f"{session.jid.bare}/{past.resource}"
    if entry.direction is Direction.OUTGOING:
        return Relation.SENT_ELSEWHERE if copies and _address(entry, b"from") != own else None
    to = addressee(entry)
    if to == own or (takes and (to == session.jid.bare or entry.id <= past.since)):
        return Relation.DIRECT
    return Relation.RECEIVED_ELSEWHERE if copies else None


def is_surely_given(entry: Entry, session: Session, past: Past) -> bool:
    """Whether a session that was there was given an entry directly, whatever other sessions there were."""
    if entry.direction is Direction.OUTGOING or entry.id <= past.since:
        return False
    to = addressee(entry)
    return to in (session.jid.bare, f"{session.jid.bare}/{past.resource}")


def addressee(entry: Entry) -> str:
    """The address that the sender wrote; empty where it wrote none."""
    return _address(entry, b"to")


def _address(entry: Entry, wanted: bytes) -> str:
    for name, single, double in _ADDRESS.findall(entry.payload[: entry.payload.find(b">")]):
        if name == wanted:
            return unescape((single or double).decode(), {"&apos;": "'", "&quot;": '"'})
    return ""
