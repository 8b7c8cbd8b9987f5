"""Stanzas as JSON events: nothing is lost on the way there and back."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.protocol import namespaces as ns
from homeserver.protocol.events_json import (
    MAX_DEPTH,
    InvalidEvent,
    MessageEvent,
    Place,
    fragment,
    from_element,
    stanza_element,
    to_element,
)
from homeserver.protocol.stanza import LANG, MESSAGE
from homeserver.protocol.xml import Element, element, serialise

PLACE = Place(1_763_656_800_123_456, 1_763_656_800_123_456, "bob@b.example", "outgoing")

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"))
names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
NAMING = [
    ("replace", ns.CORRECTION),
    ("retract", ns.RETRACTION),
    ("retracted", ns.RETRACTION),
    ("displayed", ns.CHAT_MARKERS),
    ("received", ns.RECEIPTS),
    ("reactions", ns.REACTIONS),
    ("reaction", ns.REACTIONS),
]
spaces = st.sampled_from([ns.CLIENT, ns.STANZA_ID, ns.REPLY, ns.OMEMO, "urn:example:a", "x'&<y"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> Element:
    name = draw(st.sampled_from(["body", "thread", "origin-id", "reply", "x"]) | names)
    attributes = draw(st.dictionaries(st.sampled_from(["id", "to", "a", LANG, "{urn:example:a}k"]), texts, max_size=3))
    space = draw(spaces)
    if draw(st.booleans()):
        name, space = draw(st.sampled_from(NAMING))
        attributes |= draw(st.sampled_from([{}, {"stamp": "2026-01-01T00:00:00Z"}]))
    made = element(space, name, attributes)
    made.text = draw(st.none() | texts) or None
    if depth:
        for part in draw(st.lists(elements(depth - 1), max_size=2)):
            made.append(part)
    return made


@st.composite
def messages(draw: st.DrawFn) -> Element:
    attributes = {"from": "alice@a.example/x", "to": "bob@b.example"}
    attributes |= draw(st.dictionaries(st.sampled_from(["id", LANG, "{urn:example:a}k"]), texts.filter(len)))
    kind = draw(st.sampled_from(["", "chat", "groupchat", "headline", "error"]))
    if kind:
        attributes["type"] = kind
    made = Element(MESSAGE, attributes)
    for part in draw(st.lists(elements(), max_size=5)):
        made.append(part)
    return made


def canonical(node: Element) -> object:
    return (node.tag, sorted(node.items()), node.text or "", [canonical(part) for part in node], node.tail or "")


def as_sets(message: Element) -> object:
    return sorted(message.items()), sorted(repr(canonical(part)) for part in message)


@given(messages())
@settings(max_examples=100, deadline=None)
def test_there_and_back_again(message):
    event = from_element(message, PLACE)
    wire = msgspec.json.encode(event)
    assert as_sets(to_element(msgspec.json.decode(wire, type=MessageEvent))) == as_sets(message)


@given(messages())
@settings(max_examples=100, deadline=None)
def test_stored_bytes_are_read_as_they_were_written(message):
    assert as_sets(stanza_element(serialise(message).encode())) == as_sets(message)


def test_parts_that_name_another_message_are_members():
    message = Element(MESSAGE, {"from": "a@a.example/x", "to": "b@b.example", "type": "chat"})
    for space, name in (
        (ns.CORRECTION, "replace"),
        (ns.RETRACTION, "retract"),
        (ns.CHAT_MARKERS, "displayed"),
        (ns.RECEIPTS, "received"),
    ):
        message.append(element(space, name, {"id": name}))
    reaction = element(ns.REACTIONS, "reaction", None, "!")
    message.append(element(ns.REACTIONS, "reactions", {"id": "m"}, reaction, reaction))
    message.append(element(ns.RETRACTION, "retracted", {"id": "r", "stamp": "2026-01-01T00:00:00Z"}))
    message.append(element(ns.CORRECTION, "replace", {"id": "second"}))
    found = msgspec.to_builtins(from_element(message, PLACE))
    assert {
        name: found[name] for name in ("replaces", "retracts", "displayed", "delivered", "reaction", "retracted")
    } == {
        "replaces": "replace",
        "retracts": "retract",
        "displayed": "displayed",
        "delivered": "received",
        "reaction": {"to": "m", "emojis": ["!", "!"]},
        "retracted": {"id": "r", "at": "2026-01-01T00:00:00Z"},
    }
    assert len(found["xml"]) == 1
    assert as_sets(to_element(from_element(message, PLACE))) == as_sets(message)


def test_an_ordinary_message():
    payload = (
        b"<message from='alice@a.example/x' to='bob@b.example' type='chat' id='c1'><body>hi</body><thread>t</thread>"
        b"<origin-id xmlns='urn:xmpp:sid:0' id='c1'/><reply xmlns='urn:xmpp:reply:0' id='q' to='bob@b.example'/>"
        b"<active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    assert msgspec.to_builtins(from_element(stanza_element(payload), PLACE)) == {
        "id": PLACE.id,
        "conversation": "bob@b.example",
        "from": "alice@a.example/x",
        "to": "bob@b.example",
        "kind": "chat",
        "direction": "outgoing",
        "sent_at": "2025-11-20T16:40:00.123456Z",
        "client_id": "c1",
        "stanza_id": "c1",
        "text": "hi",
        "thread": "t",
        "reply_to": {"id": "q", "to": "bob@b.example"},
        "xml": ["<active xmlns='http://jabber.org/protocol/chatstates'/>"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "<x/>",
        "<x xmlns='urn:a'>",
        "<x xmlns='urn:a'/><y xmlns='urn:a'/>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><x xmlns='urn:a'>&a;</x>",
        "<?xml version='1.0'?><x xmlns='urn:a'/>",
        "<x xmlns='urn:a'><!-- c --></x>",
        "<x xmlns='urn:a'><![CDATA[c]]></x>",
        "<x xmlns='urn:a'>&unknown;</x>",
        "<x xmlns='urn:a'>\x00</x>",
        "<p:x/>",
        "<x xmlns='urn:a'>" * (MAX_DEPTH + 1) + "</x>" * (MAX_DEPTH + 1),
        "<x xmlns='urn:a'>" * 100_000,
    ],
)
def test_fragments_that_are_refused(text):
    with pytest.raises(InvalidEvent):
        fragment(text)


@pytest.mark.parametrize("text", ["\x00", "a\x08b", "\ufffe", "\ud800"])
def test_text_that_xml_cannot_carry_is_refused(text):
    event = from_element(Element(MESSAGE), PLACE)
    event.text = text
    with pytest.raises(InvalidEvent):
        to_element(event)
