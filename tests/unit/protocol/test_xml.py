"""Elements written and read again are equal (S-23)."""

from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol import namespaces as ns
from homeserver.protocol.parser import StreamParser, XmlLimits, parse_document
from homeserver.protocol.xml import child, children, element, local_name, namespace_of, parse_stanza, serialise, text_of

HEADER = f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAM}'>".encode()
NAMES = st.sampled_from(["a", "b", "body", "x-y", "\u00e4", "_1"])
SPACES = st.sampled_from(["jabber:client", "urn:a", "urn:b", "", "it's & <that>", 'say "x"'])
TEXT = st.text(
    st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from("\t\n\r\u00a0\u2028\u00e4\U0001f600&<>'\""),
    ),
    max_size=12,
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Element:
    namespace = draw(SPACES)
    name = draw(NAMES)
    made = Element(f"{{{namespace}}}{name}" if namespace else name)
    for key in draw(st.lists(NAMES, max_size=2, unique=True)):
        made.set(key, draw(TEXT))
    if draw(st.booleans()):
        made.set("{urn:attributes}a", draw(TEXT))
        made.set("{urn:others}a", draw(TEXT))
        made.set(f"{{{ns.XML}}}lang", "en")
    made.text = draw(TEXT) or None
    if depth:
        for below in draw(st.lists(trees(depth=depth - 1), max_size=2)):
            below.tail = draw(TEXT) or None
            made.append(below)
    return made


def infoset(node: Element) -> object:
    return (node.tag, dict(node.attrib), node.text or "", [(infoset(below), below.tail or "") for below in node])


@settings(deadline=None, max_examples=300)
@given(trees())
def test_what_is_written_reads_the_same(tree: Element) -> None:
    expected = infoset(tree)
    assert infoset(parse_document(serialise(tree, "").encode(), XmlLimits())) == expected
    for size in (1 << 20, 1):
        parser = StreamParser(XmlLimits())
        parser.feed(HEADER)
        data = serialise(tree).encode()
        items = [item for i in range(0, len(data), size) for item in parser.feed(data[i : i + size])]
        assert len(items) == 1
        assert isinstance(items[0], tuple)
        assert infoset(items[0][0]) == expected
        relayed = serialise(items[0][0], ns.SERVER).encode()
        wrapped = f"<s xmlns='{ns.SERVER}'>".encode() + relayed + b"</s>"
        assert infoset(parse_document(wrapped, XmlLimits())[0]) == expected


def test_building_and_reading() -> None:
    made = element("u", "a", {"k": "v"}, "text", element("u", "b", {}, "1"), element("w", "b"), " more")
    assert (namespace_of(made), local_name(made)) == ("u", "a")
    assert made.text == "text more"
    assert text_of(made, "u", "b") == "1"
    assert text_of(made, "w", "b") == ""
    assert text_of(made, "w", "c") is None
    assert child(made, "u", "c") is None
    assert len(list(children(made, "u", "b"))) == 1
    assert namespace_of(Element("plain")) == ""


@pytest.mark.parametrize(
    "tree, text",
    [
        (element(ns.CLIENT, "message"), "<message/>"),
        (element(ns.CLIENT, "a", {}, element("u", "b", {}, element("u", "c"))), "<a><b xmlns='u'><c/></b></a>"),
        (element(ns.CLIENT, "a", {"x": "\n\t\r'\"<&>"}), "<a x='&#10;&#9;&#13;&apos;\"&lt;&amp;&gt;'/>"),
        (element(ns.CLIENT, "a", {}, "\r\n'\"<&>]]>"), "<a>&#13;\n'\"&lt;&amp;&gt;]]&gt;</a>"),
        (element(ns.CLIENT, "a", {}, Element("none")), "<a><none xmlns=''/></a>"),
    ],
)
def test_serialise(tree: Element, text: str) -> None:
    assert serialise(tree) == text


def test_a_stanza_read_back_has_the_namespace_of_its_stream() -> None:
    found = parse_stanza(b"<presence from='a@b/c'><show>away</show></presence>")
    assert found.tag == f"{{{ns.CLIENT}}}presence"
    assert text_of(found, ns.CLIENT, "show") == "away"
    assert parse_stanza(b"<message xmlns='jabber:client'/>").tag == f"{{{ns.CLIENT}}}message"
