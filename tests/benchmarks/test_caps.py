"""The capabilities that the generator's clients advertise."""

from xml.etree import ElementTree

from homeserver.protocol import caps
from tests.benchmarks.caps import METADATA, MOOD, Capabilities

_QUESTION = (
    b"<iq id='a1' from='romeo@example.org' to='juliet@example.org/bench' type='get'>"
    b"<query xmlns='http://jabber.org/protocol/disco#info' node='https://bench.example#x'/></iq>"
)


def test_the_answer_proves_the_hash_and_names_the_nodes() -> None:
    client = Capabilities((MOOD, METADATA))
    presence = ElementTree.fromstring(f"<presence xmlns='jabber:client'>{client.element()}</presence>")
    said = caps.advertised(presence)
    assert said is not None
    result = ElementTree.fromstring(client.answers(_QUESTION))
    answer = caps.read(result[0], said)
    assert answer.is_verified
    assert answer.interests == {MOOD, METADATA}
    assert (result.get("id"), result.get("to")) == ("a1", "romeo@example.org")


def test_what_is_no_question_is_not_answered() -> None:
    assert Capabilities((MOOD,)).answers(b"<iq id='ready' type='result'/><presence/>") == b""
