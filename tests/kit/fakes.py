"""Sessions that keep what they are sent, and other servers that keep what they would be sent."""

from collections.abc import Callable, Iterable
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from homeserver.domain.accounts import Account
from homeserver.domain.messages import Relation, Stored
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import Stanza


def wire(data: bytes) -> Element:
    """Read stanza bytes as a client would, inside a ``jabber:client`` stream."""
    return fromstring(b"<stream xmlns='%b'>%b</stream>" % (ns.CLIENT.encode(), data))[0]


def stanza(text: str, sender: JID) -> Stanza:
    """A stanza as the server takes it from a client or a peer: parsed, its sender vouched for."""
    element = wire(text.encode())
    to = element.get("to")
    return Stanza(element, sender, JID.parse(to) if to else None)


class FakeSession:
    """A bound client without a connection. ``sent`` holds the bytes it was given, in order."""

    def __init__(self, account: Account, resource: str, visible: Callable[[JID, JID], bool] | None = None) -> None:
        self.account = account
        self.jid = account.jid.with_resource(resource)
        self.priority: int | None = None
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.wants_blocks = False
        self.wants_copies = False
        self.uses_archive = False
        self.device: str | None = None
        self.sent: list[bytes] = []
        self.stanzas: list[Stanza] = []
        self.delivered: list[tuple[Stored, Relation, bool]] = []
        self.read: set[int] = set()
        self.room = True
        self.unacknowledged: list[int] = []
        self.ended: str | None = None
        self.device: str | None = None
        self.connected = True
        self._visible = visible

    def deliver(self, stored: Stored, relation: Relation, late: bool = False) -> None:
        self.delivered.append((stored, relation, late))

    def is_connected(self) -> bool:
        return self.connected

    def has_room(self) -> bool:
        return self.room

    def oldest_unacknowledged(self) -> int | None:
        return self.unacknowledged[0] if self.unacknowledged else None

    def has_read(self, ids: Iterable[int]) -> None:
        self.read.update(ids)

    def already_read(self) -> frozenset[int]:
        read, self.read = frozenset(self.read), set()
        return read

    def is_visible_to(self, asker: JID) -> bool:
        return self._visible is not None and self._visible(self.jid, asker)

    def send(self, stanza: Stanza) -> None:
        self.stanzas.append(stanza)
        self.sent.append(stanza.encode())

    def disconnect(self, condition: str, text: str = "") -> None:
        self.ended = condition

    def take(self) -> list[Element]:
        """What it was sent since the last call, parsed."""
        found = [wire(data) for data in self.sent]
        self.sent.clear()
        self.stanzas.clear()
        return found

    def told(self) -> list[str]:
        """`take` in short: see `short`."""
        return [short(element) for element in self.take()]


class FakeOutbox:
    """What would go to other servers: ``durable`` and ``passing``, as (destination, stanza)."""

    def __init__(self) -> None:
        self.durable: list[tuple[str, Element]] = []
        self.passing: list[tuple[str, Element]] = []

    def pass_on(self, origin: str, destination: str, payload: bytes, failed: Any = None) -> None:
        self.passing.append((destination, wire(payload)))

    def enqueue(self, origin: str, destination: str, stanza_id: Any, message: Any, payload: bytes, sender: str) -> None:
        self.durable.append((destination, wire(payload)))

    def told(self) -> list[str]:
        """What was queued since the last call, durable first, in short."""
        found = [short(element) for _, element in (*self.durable, *self.passing)]
        self.durable.clear()
        self.passing.clear()
        return found


def short(element: Element) -> str:
    """One line for a stanza: type, addresses, and for a roster push or an error what it says."""
    kind = element.get("type", "available")
    if element.tag.endswith("}iq"):
        item = element.find(f"{{{ns.ROSTER}}}query/{{{ns.ROSTER}}}item")
        if kind == "set" and item is not None:
            said = [f"push {item.get('jid')} {item.get('subscription')}"]
            said += [f"{name}={item.get(name)}" for name in ("ask", "approved", "name") if item.get(name)]
            return " ".join(said)
        kind = f"iq {kind}"
    error = element.find(f"{{{ns.CLIENT}}}error")
    if error is not None:
        kind += " " + error[0].tag.rpartition("}")[2]
    return f"{kind} {element.get('from')} -> {element.get('to')}"
