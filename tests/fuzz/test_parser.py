"""Random and nearly right input: any cutting gives one result, nothing but XmlFault is raised, raw bytes are exact."""

from contextlib import suppress
from itertools import pairwise
from xml.etree.ElementTree import canonicalize, tostring

from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol.parser import StreamEnd, StreamHeader, StreamParser, XmlFault, XmlLimits, parse_document

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
PIECES = st.sampled_from(
    [
        b"<message>", b"</message>", b"<message to='a' type='chat'>", b"<message/>", b"<presence/>", b"<iq type='get'>",
        b"</iq>", b"<body>", b"</body>", b"<body/>", b"text", b" ", b"\n", b">", b"'", b'"', b"<a b='", b"'/>", b"&amp;",
        b"&lt;", b"&#65;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?a", b"?>", b"<x:y/>", b"<y xmlns:x='u'>", b"</y>",
        b"<stream:x/>", b"</stream:stream>", b"<q xmlns='u'>", b"</q>", b"\xc3\xa4", b"\xff", b"\0",
        b"<message><body>x</body></message>", b"<message id='&gt;'><body>a > b</body></message>",
        b"<presence a='/>'/>", b"<presence a='</message>'/>",
    ]
)  # fmt: skip
INPUT = st.one_of(st.lists(PIECES, max_size=14).map(b"".join), st.binary(max_size=60))


def play(chunks: list[bytes], limits: XmlLimits) -> list[object]:
    parser = StreamParser(limits)
    out: list[object] = []
    for chunk in chunks:
        fault = None
        try:
            items = parser.feed(chunk)
        except XmlFault as raised:
            fault, items = raised, raised.items
        for item in items:
            if isinstance(item, StreamHeader | StreamEnd):
                out.append(type(item).__name__)
                continue
            element, raw = item
            element.tail = None
            text = tostring(element)
            out.append(text)
            if raw is not None:
                alone = raw.replace(b"<message", b"<message xmlns='jabber:client'", 1)
                assert canonicalize(tostring(parse_document(alone, XmlLimits()))) == canonicalize(text)
        if fault is not None:
            out.append("fault")
            break
    return out


@settings(deadline=None, max_examples=400)
@given(data=INPUT, cuts=st.lists(st.integers(0, 400), max_size=5))
def test_any_cutting_gives_one_result(data: bytes, cuts: list[int]) -> None:
    limits = XmlLimits(max_bytes=10_000)
    data = HEADER + data
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    cut_up = play([data[a:b] for a, b in pairwise(edges)], limits)
    single = play([data[i : i + 1] for i in range(len(data))], limits)
    whole = play([data], limits)
    for one, other in ((cut_up, whole), (single, whole)):
        faults = "fault" in one, "fault" in other
        # A comment or the like that is never closed is refused where it stands between stanzas, or once it ends.
        if all(faults) or (any(faults) and (b"<!" in data or b"<?" in data)):
            shorter = min(len(one), len(other)) - 1
            assert one[:shorter] == other[:shorter]
        else:
            assert one == other


@settings(deadline=None, max_examples=200)
@given(data=INPUT, size=st.integers(1, 80))
def test_small_limits_hold(data: bytes, size: int) -> None:
    for item in play([data[i : i + size] for i in range(0, len(data), size)], XmlLimits(max_bytes=60)):
        assert isinstance(item, bytes | str)


@settings(deadline=None, max_examples=300)
@given(INPUT)
def test_documents_raise_nothing_else(data: bytes) -> None:
    with suppress(XmlFault):
        parse_document(data, XmlLimits())
