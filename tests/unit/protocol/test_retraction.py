"""What is left of a message that was taken back."""

from xml.etree.ElementTree import fromstring

from homeserver.protocol import namespaces as ns
from homeserver.protocol.retraction import target, tombstone

PAYLOAD = (
    f"<message from='ann@a.example/x' to='bob@b.example' type='chat' id='m&apos;1' xml:lang='de'><body>secret &gt;</body>"
    f"<origin-id xmlns='{ns.STANZA_ID}' id='o1'/><x xmlns='{ns.OUT_OF_BAND}'><url>secret</url></x></message>"
).encode()


def test_a_tombstone_keeps_addresses_and_ids_and_no_content() -> None:
    made = tombstone(PAYLOAD, "r1", 1_700_000_000_000_000)
    assert b"secret" not in made
    found = fromstring(made)
    assert (found.get("from"), found.get("to"), found.get("type"), found.get("id")) == (
        "ann@a.example/x",
        "bob@b.example",
        "chat",
        "m'1",
    )
    assert [part.tag for part in found] == [f"{{{ns.STANZA_ID}}}origin-id", f"{{{ns.RETRACTION}}}retracted"]
    assert found[1].attrib == {"id": "r1", "stamp": "2023-11-14T22:13:20.000000Z"}
    assert made.endswith(b"</message>")


def test_the_target_is_the_id_of_the_retract_element() -> None:
    assert target(f"<message><retract xmlns='{ns.RETRACTION}' id='m1'/></message>".encode()) == "m1"
    assert target(f"<message><retract xmlns='{ns.RETRACTION}'/></message>".encode()) is None
    assert target(b"<message><body>x</body></message>") is None
