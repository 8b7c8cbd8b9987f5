"""A stored message as stanzas: addressed, late, copied, archived."""

from xml.etree.ElementTree import Element, fromstring

from homeserver.domain.messages import Direction, Entry, Kind, Message, Relation, Stored, Treatment
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.xmpp import render

PAYLOAD = b"<message from='ann@a.example/x' to='bob@b.example' type='chat' id='7'><body>hi</body></message>"


def stored() -> Stored:
    message = Message(
        JID.parse("ann@a.example/x"), JID.parse("bob@b.example"), Kind.CHAT, Treatment.ARCHIVE, "7", None, PAYLOAD
    )
    return Stored(1_700_000_000_000_001, 1_700_000_000_000_000, message)


def parse(data: bytes) -> Element:
    return fromstring(f"<s xmlns='{ns.CLIENT}'>{data.decode()}</s>")[0]


def test_the_addressee_sees_the_archive_id() -> None:
    element = parse(render.direct(stored(), "bob@b.example"))
    mark = element.find(f"{{{ns.STANZA_ID}}}stanza-id")
    assert mark is not None
    assert mark.attrib == {"by": "bob@b.example", "id": "1700000000000001"}


def test_each_owner_sees_only_the_id_of_the_own_archive() -> None:
    message = stored()
    render.direct(message, "bob@b.example")
    element = parse(render.direct(message, "ann@a.example"))
    assert [mark.get("by") for mark in element.iter(f"{{{ns.STANZA_ID}}}stanza-id")] == ["ann@a.example"]


def test_what_waited_carries_the_time_it_came() -> None:
    element = parse(render.late(stored(), "bob@b.example", "b.example"))
    delay = element.find(f"{{{ns.DELAY}}}delay")
    assert delay is not None
    assert delay.get("stamp") == "2023-11-14T22:13:20.000000Z"
    assert delay.get("from") == "b.example"


def test_a_copy_wraps_the_message_and_comes_from_the_own_account() -> None:
    element = parse(render.carbon(stored(), Relation.SENT_ELSEWHERE, "ann@a.example", "ann@a.example/tablet"))
    assert element.get("from") == "ann@a.example"
    inner = element.find(f"{{{ns.CARBONS}}}sent/{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message")
    assert inner is not None
    assert inner.get("id") == "7"
    received = parse(render.carbon(stored(), Relation.RECEIVED_ELSEWHERE, "bob@b.example", "bob@b.example/t"))
    assert received.find(f"{{{ns.CARBONS}}}received/{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message") is not None


def test_an_archive_result_names_query_id_and_time() -> None:
    entry = Entry(
        id=5,
        at=1_700_000_000_000_000,
        peer="ann@a.example",
        direction=Direction.INCOMING,
        kind=Kind.CHAT,
        stanza_id="7",
        payload=PAYLOAD,
    )
    element = parse(render.archive_result(entry, "q'1", "bob@b.example", "bob@b.example/x"))
    result = element.find(f"{{{ns.ARCHIVE}}}result")
    assert result is not None
    assert (result.get("id"), result.get("queryid")) == ("5", "q'1")
    inner = result.find(f"{{{ns.FORWARD}}}forwarded/{{{ns.CLIENT}}}message")
    assert inner is not None
    assert inner.get("from") == "ann@a.example/x"
