"""A component's stream: the handshake, and whose name it may use."""

import pytest

from homeserver.protocol import namespaces as ns
from homeserver.protocol.component_stream import HANDSHAKE_BYTES, Arrived, Closed, ComponentStream, Proved, handshake
from homeserver.protocol.xml_input import XmlLimits

SECRETS = {"bot.a.example": "hunter2"}
HEADER = f"<?xml version='1.0'?><stream:stream xmlns='{ns.COMPONENT}' xmlns:stream='{ns.STREAM}' to='bot.a.example'>".encode()


def stream() -> ComponentStream:
    return ComponentStream(SECRETS.get, XmlLimits(max_bytes=10_000), 0.0, lambda: "3BF96D32")


def proof(secret: str = "hunter2") -> bytes:
    return f"<handshake>{handshake('3BF96D32', secret)}</handshake>".encode()


def accepted() -> ComponentStream:
    made = stream()
    assert made.receive(HEADER) == []
    assert made.receive(proof()) == [Proved("bot.a.example")]
    made.accept()
    made.data_to_send()
    return made


def sent(made: ComponentStream) -> str:
    return b"".join(made.data_to_send()).decode()


def test_handshake_of_the_specification() -> None:
    """XEP-0114 s3: lower-case hexadecimal SHA-1 of the stream id and the secret."""
    assert handshake("3BF96D32", "hunter2") == "1afcbe9c604aab3cae1c07b36a7403d2bb6bdc74"


def test_a_component_that_knows_the_secret() -> None:
    made = stream()
    made.receive(HEADER[:30])
    made.receive(HEADER[30:])
    assert " id='3BF96D32'" in (answer := sent(made))
    assert " from='bot.a.example'" in answer
    assert ns.COMPONENT in answer
    assert made.receive(proof()) == [Proved("bot.a.example")]
    made.accept()
    assert sent(made) == "<handshake/>"
    assert made.next_deadline() is None


def test_stanzas_are_read_as_those_of_clients() -> None:
    made = accepted()
    (event,) = made.receive(b"<message from='echo@bot.a.example/x' to='ann@a.example'><body>hi</body></message>")
    assert isinstance(event, Arrived)
    assert event.element.tag == f"{{{ns.CLIENT}}}message"
    assert event.element[0].tag == f"{{{ns.CLIENT}}}body"
    assert (str(event.sender), str(event.to)) == ("echo@bot.a.example/x", "ann@a.example")


def test_an_address_that_is_none_does_not_end_the_stream() -> None:
    made = accepted()
    (event,) = made.receive(b"<message from='bot.a.example' to='@'/>")
    assert isinstance(event, Arrived)
    assert event.to is None


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        (HEADER.replace(b"bot.a", b"cat.a"), "host-unknown"),
        (HEADER.replace(b" to='bot.a.example'", b""), "host-unknown"),
        (HEADER.replace(ns.COMPONENT.encode(), ns.CLIENT.encode()), "invalid-namespace"),
        (HEADER + proof("hunter3"), "not-authorized"),
        (HEADER + b"<handshake/>", "not-authorized"),
        (HEADER + "<handshake>é</handshake>".encode(), "not-authorized"),
        (HEADER + b"<message from='bot.a.example' to='a.example'/>", "not-authorized"),
        (HEADER + b"<handshake>" + b"a" * HANDSHAKE_BYTES, "policy-violation"),
        (b"<!DOCTYPE x>", "restricted-xml"),
    ],
)
def test_before_the_handshake(given: bytes, condition: str) -> None:
    made = stream()
    assert made.receive(given) == [Closed(condition)]
    answer = sent(made)
    assert answer.count("<stream:stream ") == 1
    assert f"<{condition} xmlns='{ns.STREAM_ERRORS}'/>" in answer
    assert answer.endswith("</stream:stream>")
    assert made.is_closed
    assert made.receive(proof()) == []


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        (b"<message from='ann@a.example' to='bob@a.example'/>", "invalid-from"),
        (b"<message from='bot.a.example.evil' to='bob@a.example'/>", "invalid-from"),
        (b"<message from='x.bot.a.example' to='bob@a.example'/>", "invalid-from"),
        (b"<message from='@' to='bob@a.example'/>", "invalid-from"),
        (b"<message to='bob@a.example'/>", "improper-addressing"),
        (b"<message from='bot.a.example'/>", "improper-addressing"),
        (b"<log from='bot.a.example' to='a.example'/>", "unsupported-stanza-type"),
        (b"<handshake/>", "unsupported-stanza-type"),
        (b"<message from='bot.a.example' to='a.example'>" + b"x" * 10_001, "policy-violation"),
        (b"<a></b>", "not-well-formed"),
    ],
)
def test_after_the_handshake(given: bytes, condition: str) -> None:
    """S-68: a component speaks for its own domain only."""
    made = accepted()
    assert made.receive(given) == [Closed(condition)]
    assert condition in sent(made)


def test_the_handshake_has_a_deadline() -> None:
    made = stream()
    made.receive(HEADER)
    assert made.check_deadline(29.0) == []
    assert made.check_deadline(31.0) == [Closed("connection-timeout")]


def test_the_end_of_the_stream() -> None:
    made = accepted()
    assert made.receive(b"</stream:stream>") == [Closed(None)]
    assert sent(made) == "</stream:stream>"
