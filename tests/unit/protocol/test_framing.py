"""The two framings say the same."""

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.framing import STREAM_TAG, Framing, TcpFraming, WebSocketFraming
from homeserver.protocol.parser import Item, StreamEnd, StreamHeader, XmlFault, XmlLimits, parse_document

TCP_OPEN = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}' to='a.example' version='1.0'>".encode()
WS_OPEN = f"<open xmlns='{ns.FRAMING}' to='a.example' version='1.0'/>".encode()


def one(framing: Framing, data: bytes) -> Item:
    (item,) = framing.feed(data)
    return item


def test_headers_are_equal() -> None:
    expected = StreamHeader(STREAM_TAG, {"to": "a.example", "version": "1.0"}, {"": ns.CLIENT, "stream": ns.STREAM})
    assert one(TcpFraming(XmlLimits()), TCP_OPEN) == expected
    assert one(WebSocketFraming(XmlLimits()), WS_OPEN) == expected


def test_ends() -> None:
    tcp = TcpFraming(XmlLimits())
    tcp.feed(TCP_OPEN)
    assert one(tcp, b"</stream:stream>") == StreamEnd()
    assert one(WebSocketFraming(XmlLimits()), f"<close xmlns='{ns.FRAMING}'/>".encode()) == StreamEnd()


@pytest.mark.parametrize(
    "message, raw",
    [
        (b"<message xmlns='jabber:client' to='a'><body/></message>", b"<message to='a'><body/></message>"),
        (b'<message xmlns="jabber:client"><body/></message>', b"<message><body/></message>"),
        (b"<message to='a' xmlns='jabber:client'><body/></message>", None),
        (b"<message xmlns='jabber:client' from='a'><body/></message>", None),
        (b"<message xmlns='jabber:client'><body xmlns='jabber:client'/></message>", None),
        (b"<message xmlns='jabber:client'><body><![CDATA[x]]></body></message>", None),
        (b"<message xmlns='jabber:client'/>", None),
        (b"<presence xmlns='jabber:client'></presence>", None),
    ],
)
def test_websocket_stanzas(message: bytes, raw: bytes | None) -> None:
    item = one(WebSocketFraming(XmlLimits()), message)
    assert isinstance(item, tuple)
    assert item[1] == raw


@pytest.mark.parametrize(
    "message, condition",
    [
        (b" <presence xmlns='jabber:client'/>", "not-well-formed"),
        (b"<presence xmlns='jabber:client'/><presence/>", "not-well-formed"),
        (b"<open xmlns='urn:other' to='a.example'/>", "invalid-namespace"),
        (TCP_OPEN, "not-well-formed"),
        (b"<message xmlns='jabber:client'><!-- c --></message>", "restricted-xml"),
    ],
)
def test_websocket_refusals(message: bytes, condition: str) -> None:
    with pytest.raises(XmlFault) as caught:
        WebSocketFraming(XmlLimits()).feed(message)
    assert caught.value.condition == condition


def test_output_of_a_websocket_stands_alone() -> None:
    framing = WebSocketFraming(XmlLimits())
    assert framing.element(b"<message to='a'/>") == b"<message xmlns='jabber:client' to='a'/>"
    assert framing.element(b"<iq/>") == b"<iq xmlns='jabber:client'/>"
    assert framing.element(b"<r xmlns='urn:xmpp:sm:3'/>") == b"<r xmlns='urn:xmpp:sm:3'/>"
    for data in (framing.header({"id": "'&"}), framing.footer(), framing.stream_element("features", "<a xmlns='u'/>")):
        parse_document(data, XmlLimits())
    assert framing.is_between_stanzas
    assert not framing.is_awake
    assert framing.feed(b"") == []


def test_output_of_tcp_is_one_document() -> None:
    framing = TcpFraming(XmlLimits())
    document = framing.header({"id": "'&"}) + framing.stream_element("features", "") + framing.element(b"<iq/>")
    root = parse_document(document + framing.footer(), XmlLimits())
    assert [below.tag for below in root] == ["{http://etherx.jabber.org/streams}features", "{jabber:client}iq"]


def test_tcp_restarts_and_keeps_its_limits() -> None:
    framing = TcpFraming(XmlLimits())
    framing.limits = XmlLimits(max_bytes=100)
    framing.feed(TCP_OPEN)
    framing.restart()
    assert isinstance(one(framing, TCP_OPEN), StreamHeader)
    with pytest.raises(XmlFault):
        framing.feed(b"<a b='" + b"x" * 200)
