"""How a stream is cut into pieces: RFC 6120 over TCP, RFC 7395 over WebSocket, behind one interface.

Whatever the framing, what is inside is written for a place where ``jabber:client`` is the default namespace.
"""

from typing import Final, Protocol

from homeserver.protocol import namespaces as ns
from homeserver.protocol.parser import Item, StreamEnd, StreamHeader, StreamParser, XmlFault, XmlLimits, parse_document
from homeserver.protocol.xml import escape_attribute

STREAM_TAG: Final = "{" + ns.STREAM + "}stream"
_OPEN: Final = "{" + ns.FRAMING + "}open"
_CLOSE: Final = "{" + ns.FRAMING + "}close"
_CLIENT_STREAM: Final = {"": ns.CLIENT, "stream": ns.STREAM}
_DECLARED: Final = f" xmlns='{ns.CLIENT}'".encode()
_DECLARED_DOUBLE: Final = f' xmlns="{ns.CLIENT}"'.encode()
_MESSAGE: Final = "{" + ns.CLIENT + "}message"


class Framing(Protocol):
    """One connection's framing. ``feed`` raises `XmlFault`."""

    limits: XmlLimits

    def feed(self, data: bytes) -> list[Item]:
        """What ``data`` completed: for TCP any bytes, for WebSocket one whole message."""

    def restart(self) -> None:
        """The next input is a new stream header."""

    def idle(self) -> None:
        """Give memory back while nothing is half read."""

    @property
    def is_between_stanzas(self) -> bool:
        """Whether nothing is half read."""

    @property
    def is_awake(self) -> bool:
        """Whether `idle` could give something back."""

    def header(self, attributes: dict[str, str]) -> bytes:
        """The opening of our stream."""

    def footer(self) -> bytes:
        """The end of our stream."""

    def stream_element(self, name: str, content: str) -> bytes:
        """``features`` or ``error`` in the stream namespace around ``content``."""

    def element(self, data: bytes) -> bytes:
        """Any other element, written for a ``jabber:client`` context."""


class TcpFraming:
    """RFC 6120 s4: one endless document."""

    __slots__ = ("_limits", "_parser")

    def __init__(self, limits: XmlLimits) -> None:
        self._limits = limits
        self._parser = StreamParser(limits)

    @property
    def limits(self) -> XmlLimits:
        return self._limits

    @limits.setter
    def limits(self, limits: XmlLimits) -> None:
        self._limits = self._parser.limits = limits

    def feed(self, data: bytes) -> list[Item]:
        return self._parser.feed(data)

    def restart(self) -> None:
        self._parser = StreamParser(self._limits)

    def idle(self) -> None:
        self._parser.idle()

    @property
    def is_between_stanzas(self) -> bool:
        return self._parser.is_between_stanzas

    @property
    def is_awake(self) -> bool:
        return self._parser.is_awake

    def header(self, attributes: dict[str, str]) -> bytes:
        return (
            f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'{_written(attributes)}>"
        ).encode()

    def footer(self) -> bytes:
        return b"</stream:stream>"

    def stream_element(self, name: str, content: str) -> bytes:
        return f"<stream:{name}>{content}</stream:{name}>".encode() if content else f"<stream:{name}/>".encode()

    def element(self, data: bytes) -> bytes:
        return data


class WebSocketFraming:
    """RFC 7395 s3: every element is a message and a document of its own."""

    __slots__ = ("limits",)

    def __init__(self, limits: XmlLimits) -> None:
        self.limits = limits

    def feed(self, data: bytes) -> list[Item]:
        if not data:
            return []
        root = parse_document(data, self.limits)
        if root.tag == _OPEN:
            return [StreamHeader(STREAM_TAG, dict(root.attrib), _CLIENT_STREAM)]
        if root.tag == _CLOSE:
            return [StreamEnd()]
        if root.tag.endswith(("}open", "}stream")):
            raise XmlFault("invalid-namespace", "open and close belong to the framing namespace")
        return [(root, _spliceable(data) if root.tag == _MESSAGE and root.get("from") is None else None)]

    def restart(self) -> None:
        """Nothing is kept between messages."""

    def idle(self) -> None:
        """Nothing is kept between messages."""

    @property
    def is_between_stanzas(self) -> bool:
        return True

    @property
    def is_awake(self) -> bool:
        return False

    def header(self, attributes: dict[str, str]) -> bytes:
        return f"<open xmlns='{ns.FRAMING}'{_written(attributes)}/>".encode()

    def footer(self) -> bytes:
        return f"<close xmlns='{ns.FRAMING}'/>".encode()

    def stream_element(self, name: str, content: str) -> bytes:
        return f"<stream:{name} xmlns:stream='{ns.STREAM}'>{content}</stream:{name}>".encode()

    def element(self, data: bytes) -> bytes:
        for name in (b"<message", b"<presence", b"<iq"):
            if data.startswith(name):
                return name + _DECLARED + data[len(name) :]
        return data


def _spliceable(data: bytes) -> bytes | None:
    """The message as it would stand in a TCP stream, where its declaration comes first and nothing else is odd."""
    for declared in (_DECLARED, _DECLARED_DOUBLE):
        if data.startswith(b"<message" + declared):
            rest = data[8 + len(declared) :]
            if b"jabber:client" not in rest and b"!" not in rest and rest.endswith(b"</message>"):
                return b"<message" + rest
    return None


def _written(attributes: dict[str, str]) -> str:
    return "".join(f" {name}='{escape_attribute(value)}'" for name, value in attributes.items())
