"""A component's stream as the server sees it (XEP-0114 s3): bytes in, events out, commands in, bytes out.

`ComponentStream.receive` never raises for what a component sends; a fault ends as `Closed` after the stream error was
queued. `Proved` is answered with `accept` or `close`. After every call, write what `data_to_send` returns, and close the
connection when `is_closed`. Nothing reads a clock: ``now`` is seconds on any steady clock.

Inside, stanzas are those of ``jabber:client``: a component's own default namespace means the same (XEP-0114 s3).
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID, InvalidJID
from homeserver.protocol.parser import Item, StreamEnd, StreamHeader, StreamParser, XmlFault, XmlLimits
from homeserver.protocol.stanza import STANZAS
from homeserver.protocol.xml import Element, escape_attribute, escape_text

HANDSHAKE_SECONDS: Final = 30.0
HANDSHAKE_BYTES: Final = 8192
_STREAM_TAG: Final = f"{{{ns.STREAM}}}stream"
_ERROR_TAG: Final = f"{{{ns.STREAM}}}error"
_HANDSHAKE_TAG: Final = f"{{{ns.COMPONENT}}}handshake"
_OWN: Final = f"{{{ns.COMPONENT}}}"
_CLIENT: Final = f"{{{ns.CLIENT}}}"
_BEFORE: Final = XmlLimits(max_bytes=HANDSHAKE_BYTES)


@dataclass(frozen=True, slots=True)
class Proved:
    """The component of ``domain`` has shown that it knows the secret."""

    domain: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A stanza of an accepted component; ``to`` is None where the address is none (then it is still in the element)."""

    element: Element
    sender: JID
    to: JID | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream is over; ``condition`` is the stream error that was sent or came, if any."""

    condition: str | None = None


Event = Proved | Arrived | Closed


class State(Enum):
    """How far a stream is."""

    HEADER = auto()
    HANDSHAKE = auto()
    PROVED = auto()
    ACCEPTED = auto()
    CLOSED = auto()


def handshake(stream_id: str, secret: str) -> str:
    """What proves the secret on the stream with that id (XEP-0114 s3)."""
    return hashlib.sha1((stream_id + secret).encode(), usedforsecurity=False).hexdigest()


class ComponentStream:
    """One connection. ``secret_of`` gives the secret of a configured domain, None for any other."""

    __slots__ = ("_deadline", "_early", "_id", "_limits", "_out", "_parser", "_secret_of", "domain", "state")

    def __init__(
        self,
        secret_of: Callable[[str], str | None],
        limits: XmlLimits,
        now: float,
        make_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._secret_of = secret_of
        self._limits = limits
        self._parser = StreamParser(_BEFORE)
        self._id = make_id()
        self._out: list[bytes] = []
        self._early = 0
        self._deadline: float | None = now + HANDSHAKE_SECONDS
        self.domain = ""
        self.state = State.HEADER

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come: write what is left and close the connection."""
        return self.state is State.CLOSED

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes; returns what they mean."""
        events: list[Event] = []
        if self.is_closed:
            return events
        if self.state is not State.ACCEPTED:
            self._early += len(data)
            if self._early > HANDSHAKE_BYTES:
                self._end(events, "policy-violation", "too much before the handshake")
                return events
        try:
            items, fault = self._parser.feed(data), None
        except XmlFault as raised:
            items, fault = raised.items, raised
        for item in items:
            if self.is_closed:
                break
            self._take(item, events)
        if fault is not None and not self.is_closed:
            self._end(events, fault.condition, fault.text)
        return events

    def accept(self) -> None:
        """Answer `Proved`: the component may speak from now on."""
        self._out.append(b"<handshake/>")
        self._parser.limits = self._limits
        self._deadline = None
        self.state = State.ACCEPTED

    def send(self, stanza: bytes) -> None:
        """Queue a stanza written for a ``jabber:client`` stream: what it leaves undeclared is the stream's own namespace."""
        self._out.append(stanza)

    def close(self, condition: str | None = None, text: str = "") -> None:
        """End the stream, with a stream error if ``condition`` is given."""
        if self.state is State.CLOSED:
            return
        if self.state is State.HEADER:
            self._open()
        if condition is not None:
            words = f"<text xmlns='{ns.STREAM_ERRORS}'>{escape_text(text)}</text>" if text else ""
            error = f"<stream:error><{condition} xmlns='{ns.STREAM_ERRORS}'/>{words}</stream:error>"
            self._out.append(error.encode())
        self._out.append(b"</stream:stream>")
        self._deadline = None
        self.state = State.CLOSED

    def data_to_send(self) -> list[bytes]:
        """What to write now."""
        found, self._out = self._out, []
        return found

    def next_deadline(self) -> float | None:
        """When `check_deadline` must be called, on the clock of ``now``; None for never."""
        return self._deadline

    def check_deadline(self, now: float) -> list[Event]:
        """End a stream whose handshake does not come."""
        events: list[Event] = []
        if self._deadline is not None and now >= self._deadline:
            self._end(events, "connection-timeout", "the handshake took too long")
        return events

    def _end(self, events: list[Event], condition: str | None, text: str = "") -> None:
        self.close(condition, text)
        events.append(Closed(condition))

    def _open(self) -> None:
        sender = f" from='{escape_attribute(self.domain)}'" if self.domain else ""
        self._out.append(
            f"<?xml version='1.0'?><stream:stream xmlns='{ns.COMPONENT}' xmlns:stream='{ns.STREAM}'{sender}"
            f" id='{self._id}'>".encode()
        )

    def _take(self, item: Item, events: list[Event]) -> None:
        if isinstance(item, StreamEnd):
            self._end(events, None)
        elif isinstance(item, StreamHeader):
            self._header(item, events)
        elif item[0].tag == _ERROR_TAG:
            self.close()
            found = item[0]
            events.append(Closed(found[0].tag.rpartition("}")[2] if len(found) else "undefined-condition"))
        elif self.state is State.ACCEPTED:
            self._stanza(item[0], events)
        elif self.state is State.HANDSHAKE and item[0].tag == _HANDSHAKE_TAG:
            self._prove(item[0], events)
        else:
            self._end(events, "not-authorized", "the handshake comes first")

    def _header(self, header: StreamHeader, events: list[Event]) -> None:
        if header.tag != _STREAM_TAG or header.namespaces.get("") != ns.COMPONENT:
            self._end(events, "invalid-namespace")
            return
        try:
            wanted = JID.parse(header.attributes.get("to", "")).domain
        except InvalidJID:
            wanted = ""
        if not wanted or self._secret_of(wanted) is None:
            self._end(events, "host-unknown")
            return
        self.domain = wanted
        self._open()
        self.state = State.HANDSHAKE

    def _prove(self, element: Element, events: list[Event]) -> None:
        given = (element.text or "").strip().lower()
        wanted = handshake(self._id, self._secret_of(self.domain) or "")
        if len(element) or not hmac.compare_digest(given.encode(), wanted.encode()):
            self._end(events, "not-authorized")
            return
        self.state = State.PROVED
        events.append(Proved(self.domain))

    def _stanza(self, element: Element, events: list[Event]) -> None:
        """XEP-0114 s3: both addresses must be there, and the sender's domain is the component's."""
        for part in element.iter():
            if part.tag.startswith(_OWN):
                part.tag = _CLIENT + part.tag[len(_OWN) :]
        if element.tag not in STANZAS:
            self._end(events, "unsupported-stanza-type")
            return
        claimed, to = element.get("from"), element.get("to")
        if not claimed or not to:
            self._end(events, "improper-addressing", "a stanza of a component has from and to")
            return
        try:
            sender = JID.parse(claimed)
        except InvalidJID:
            self._end(events, "invalid-from")
            return
        if sender.domain != self.domain:
            self._end(events, "invalid-from", f"a sender is of {self.domain}")
            return
        try:
            recipient = JID.parse(to)
        except InvalidJID:
            recipient = None
        events.append(Arrived(element, sender, recipient))
