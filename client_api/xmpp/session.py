"""One bound XMPP client: what services may ask of it, and what survives its connection.

A session outlives its connection when the client asked for resumption (XEP-0198 s5): then it hibernates, keeps what it
is given, and a new connection of the same account takes it over. Without resumption it ends with its connection.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Relation, Stored
from homeserver.protocol.csi import InactiveQueue, Urgency, classify
from homeserver.protocol.jid import JID
from homeserver.protocol.sm import SentItem, SentQueue
from homeserver.protocol.stanza import Stanza
from homeserver.protocol.xml import Element, parse_stanza
from homeserver.services.delivery import Delivery, takes
from homeserver.services.presence import Presence
from homeserver.xmpp import render
from homeserver.xmpp.core_message import start_tag

MAX_READ: Final = 10_000
"""Archive results remembered before a session becomes available."""
_DIRECT: Final = Relation.DIRECT  # a member is found by a call, a name of the module is not


UNSENT_BYTES: Final = 65_536
"""Without XEP-0198: so much may wait for the socket before no more of the mailbox follows."""

Ended = Callable[["XmppSession"], None]
"""Ends a session that has no connection."""

Mark = Callable[[str, int, int], None]
"""Told of the messages that leave on a resumable stream: its id, stanzas sent so far, the message's archive id."""


class Link(Protocol):
    """The connection under a session."""

    def transmit(self, data: bytes) -> None:
        """Write one stanza."""

    def unsent(self) -> int:
        """Bytes that the socket has not taken."""

    def end(self, condition: str, text: str) -> None:
        """Close with a stream error."""

    def cut(self) -> None:
        """Close because another connection took the session."""


class XmppSession:
    """Implements `homeserver.domain.sessions.Session`.

    ``stream`` is the id by which it can be resumed, or None. ``received`` counts the client's stanzas that are handled,
    over all connections; ``since`` is the newest message id when its stream began; ``position`` is the highest message id
    the client acknowledged; ``queue`` holds what the client has not acknowledged, or is None without XEP-0198.

    While nobody looks at the client (XEP-0352) what may wait is held in front of that queue: it is counted when it is
    written, so counters and order on the wire agree, and what waits in the mailbox is not settled before.
    """

    __slots__ = (
        "_delivery",
        "_ended",
        "_given",
        "_highest",
        "_idle",
        "_mark",
        "_presence",
        "_read",
        "_written",
        "account",
        "device",
        "jid",
        "kept",
        "lang",
        "link",
        "owner",
        "position",
        "presence",
        "priority",
        "queue",
        "received",
        "since",
        "start",
        "stream",
        "uses_archive",
        "wants_blocks",
        "wants_copies",
        "wants_roster",
    )

    def __init__(
        self, account: Account, jid: JID, lang: str, delivery: Delivery, presence: Presence, ended: Ended, mark: Mark
    ) -> None:
        self.account = account
        self.jid = jid
        self.lang = lang
        self.owner = jid.bare
        self.start = start_tag(jid, lang)
        self.priority: int | None = None
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.wants_blocks = False
        self.wants_copies = False
        self.uses_archive = False
        self.device: str | None = None
        self.link: Link | None = None
        self.stream: str | None = None
        self.received = 0
        self.kept: tuple[object, ...] | None = None
        self.since = 0
        self.position = 0
        self.queue: SentQueue | None = None
        self._given: dict[int, Stored] = {}
        self._delivery = delivery
        self._presence = presence
        self._ended = ended
        self._mark = mark
        self._written = 0
        self._idle: InactiveQueue | None = None
        self._highest = 0
        self._read: set[int] = set()

    # --- Session ------------------------------------------------------------------------------------------------------

    def deliver(self, stored: Stored, relation: Relation, late: bool = False) -> None:
        """Take a message, rendered for the relation it has to this session."""
        if relation is _DIRECT:
            owner = self.owner
            data = render.late(stored, owner, self.jid.domain) if late else render.direct(stored, owner)
        else:
            data = render.carbon(stored, relation, self.owner, str(self.jid))
        idle = self._idle
        if stored.id and relation is _DIRECT and (self.queue is not None or idle is not None):
            self._given[stored.id] = stored
        if idle is None:
            self._transmit(data, stored.id or None)
        else:
            self._weigh(idle, SentItem(stored.id or None, data), parse_stanza(data))

    def send(self, stanza: Stanza) -> None:
        """Take a presence, an IQ or a message that is not stored."""
        if self._idle is None:
            self._transmit(stanza.encode(), None)
        else:
            self._weigh(self._idle, SentItem(None, stanza.encode()), stanza.element)

    def write(self, data: bytes) -> None:
        """Take a stanza as it goes on the wire; what was held goes before it."""
        if self._idle is not None:
            self._release(self._idle)
        self._transmit(data, None)

    def is_connected(self) -> bool:
        """Whether it has a connection."""
        return self.link is not None

    def has_room(self) -> bool:
        """Whether half of what may wait for an acknowledgement, or for the socket, is free."""
        if self.queue is not None:
            return not self.queue.is_half_full
        return self.link is None or self.link.unsent() < UNSENT_BYTES

    def oldest_unacknowledged(self) -> int | None:
        """The lowest id that waits for the client's acknowledgement."""
        return next(iter(self._given), None)

    def has_read(self, ids: Iterable[int]) -> None:
        """Remember these until the session takes messages."""
        if not takes(self) and len(self._read) < MAX_READ:
            self._read.update(ids)

    def already_read(self) -> frozenset[int]:
        """What `has_read` noted; forgotten by asking."""
        read, self._read = frozenset(self._read), set()
        return read

    def is_visible_to(self, asker: JID) -> bool:
        """Whether the other side may know that this session is there."""
        return self._presence.is_visible(self.jid, asker)

    def disconnect(self, condition: str, text: str = "") -> None:
        """End it for good."""
        if self.link is not None:
            self.link.end(condition, text)
        else:
            self._ended(self)

    def wishes(self) -> tuple[object, ...]:
        """What a later process must know of it; compared with ``kept``, what the row says."""
        return (self.priority, self.presence, self.wants_copies, self.wants_roster, self.wants_blocks, self.device)

    # --- client state -------------------------------------------------------------------------------------------------

    def looked_at(self, is_active: bool) -> None:
        """Somebody looks at the client, or nobody does (XEP-0352 s4.2). New and resumed streams are active (s5.2)."""
        idle = self._idle
        if not is_active:
            self._idle = InactiveQueue() if idle is None else idle
        elif idle is not None:
            self._idle = None
            self._release(idle)

    def _weigh(self, idle: InactiveQueue, item: SentItem, stanza: Element) -> None:
        found = classify(stanza)
        if found.urgency is Urgency.DROP and item.mailbox_id is not None:
            found = found._replace(urgency=Urgency.HOLD)
        if idle.add(found, item):
            self._release(idle)

    def _release(self, idle: InactiveQueue) -> None:
        for item in idle.take():
            self._transmit(item.data, item.mailbox_id)
            if self.queue is not None and self.queue.is_full:
                return

    def mark(self) -> None:
        """Note how far the client was sent everything, with the next commit.

        Only while ids come in their order, or the mark would stand for messages that are still to come.
        """
        if self.stream is not None and self.queue is not None and self._highest:
            self._mark(self.stream, self.queue.sent_count, self._highest)

    # --- acknowledgement ----------------------------------------------------------------------------------------------

    def drained(self) -> None:
        """The socket took everything: without XEP-0198 that is all the acknowledgement there will be."""
        if self._written and self.queue is None:
            self._delivery.settled(self, self._written, lazy=True)
            self._written = 0

    def acknowledged(self, released: list[SentItem]) -> int:
        """The client acknowledged these; returns the highest mailbox id among them, 0 where there is none."""
        highest = 0
        settled = 0
        for item in released:
            if item.mailbox_id is not None:
                highest = item.mailbox_id
                if self._given.pop(highest, None) is not None:
                    settled = highest
        if settled:
            self._delivery.settled(self, settled)
        return highest

    def unacknowledged(self) -> list[Stored]:
        """What was given to this session alone and is not acknowledged, oldest first."""
        return list(self._given.values())

    def give_back(self) -> list[Stored]:
        """What was given to this session alone and never acknowledged, oldest first; it is forgotten here."""
        given, self._given = list(self._given.values()), {}
        return given

    def _transmit(self, data: bytes, mailbox_id: int | None) -> None:
        queue = self.queue
        if queue is not None:
            queue.sent(SentItem(mailbox_id, data))
            if mailbox_id is not None and mailbox_id > self._highest and takes(self):
                self._highest = mailbox_id
                if self.stream is not None and self.link is not None:
                    self._mark(self.stream, queue.sent_count, mailbox_id)
            if queue.is_full:
                self.disconnect("policy-violation", "Too much waits for an acknowledgement")
                return
        elif mailbox_id is not None:
            self._written = mailbox_id
            self._given.pop(mailbox_id, None)
        if self.link is not None:
            self.link.transmit(data)
