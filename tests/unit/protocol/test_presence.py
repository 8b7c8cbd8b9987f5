"""Presence stanzas: one text for many recipients."""

import pytest

from homeserver.protocol.jid import JID
from homeserver.protocol.presence import Broadcast, presence, priority_of, readdressed, status_of
from homeserver.protocol.stanza import Stanza
from tests.kit.fakes import wire

ALICE = JID.parse("alice@a.example/phone")
TEXT = (
    "<presence id='p&apos;1' xml:lang='en' to='x@y' from='forged@z'><show>away</show><status>a &lt; b</status>"
    "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1'/></presence>"
)


def parts(stanza: Stanza) -> tuple[dict[str, str], list[tuple[str, str | None]]]:
    element = wire(stanza.encode())
    return dict(element.attrib), [(child.tag, child.text) for child in element]


@pytest.mark.parametrize("to", ["bob@a.example", "o'neil@a.example", "juliet@b.example/it's <&> me"])
def test_a_copy_says_what_the_stanza_would_say(to: str) -> None:
    jid = JID(*_split(to))
    element = wire(TEXT.encode())
    shown = Broadcast(element, ALICE)
    copy = shown.to_recipient(jid)
    assert parts(copy) == parts(readdressed(Stanza(element, ALICE, None), ALICE, jid))
    assert parts(copy)[0]["from"] == str(ALICE)
    assert parts(copy)[0]["to"] == to
    assert (copy.sender, copy.to, copy.type, copy.id, copy.name) == (ALICE, jid, "", "p'1", "presence")
    assert "to" not in parts(shown)[0]


def _split(text: str) -> tuple[str, str, str]:
    bare, _, resource = text.partition("/")
    local, _, domain = bare.partition("@")
    return local, domain, resource


def test_the_given_element_is_left_alone() -> None:
    element = wire(TEXT.encode())
    Broadcast(element, ALICE)
    assert (element.get("to"), element.get("from")) == ("x@y", "forged@z")


def test_made_presence() -> None:
    made = presence("probe", ALICE.to_bare(), JID.parse("bob@b.example"), "q1")
    assert made.encode() == b"<presence type='probe' id='q1' from='alice@a.example' to='bob@b.example'/>"


@pytest.mark.parametrize("text, value", [("<priority>5</priority>", 5), ("", 0), ("<priority>-128</priority>", -128)])
def test_priority(text: str, value: int) -> None:
    assert priority_of(wire(f"<presence>{text}</presence>".encode())) == value


@pytest.mark.parametrize(
    "text", ["<priority/>", "<priority>128</priority>", "<priority>1</priority><priority>1</priority>"]
)
def test_no_priority(text: str) -> None:
    with pytest.raises(ValueError):
        priority_of(wire(f"<presence>{text}</presence>".encode()))


def test_status() -> None:
    assert status_of(wire(TEXT.encode())) == "a < b"
    assert status_of(wire(b"<presence/>")) == ""
