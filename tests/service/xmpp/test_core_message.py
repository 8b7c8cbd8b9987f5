"""What a message becomes when it enters: its treatment, its bytes, and what is taken out of it."""

from xml.etree.ElementTree import fromstring

import pytest

from homeserver.domain.messages import Alert, Kind, Message, Treatment
from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.xmpp.core_message import Reader, start_tag

ANN = JID.parse("ann@alpha.example/phone")
BOB = JID.parse("bob@beta.example")
ALL = Treatment.ARCHIVE | Treatment.KEEP | Treatment.COPY | Treatment.DURABLE


def read(raw: str, *, local: bool = True, keep_raw: bool = True, lang: str = "") -> Message:
    wrapped = fromstring(f"<s xmlns='{ns.CLIENT}'>{raw}</s>")[0]
    reader = Reader(frozenset(("alpha.example", "beta.example")))
    return reader.read(wrapped, raw.encode() if keep_raw else None, ANN, BOB, start_tag(ANN, lang), local)


def test_a_plain_message_is_relayed_as_the_bytes_it_came_in() -> None:
    message = read("<message to='bob@beta.example' type='chat' id='1'><body>a &lt; b</body></message>")
    assert message.payload == (
        b"<message from='ann@alpha.example/phone' to='bob@beta.example' type='chat' id='1'>"
        b"<body>a &lt; b</body></message>"
    )
    assert message.kind is Kind.CHAT
    assert message.stanza_id == "1"
    assert message.treatment == ALL | Treatment.INSTANT


def test_the_language_of_the_stream_is_added() -> None:
    message = read("<message to='bob@beta.example'><body>x</body></message>", lang="de")
    assert b"<message from='ann@alpha.example/phone' xml:lang='de' to=" in message.payload


def test_a_message_that_names_its_language_keeps_it() -> None:
    message = read("<message to='bob@beta.example' xml:lang='fr'><body>x</body></message>", lang="de")
    assert fromstring(message.payload).get("{http://www.w3.org/XML/1998/namespace}lang") == "fr"


def test_a_claimed_sender_is_replaced_by_the_true_one() -> None:
    message = read("<message from='eve@alpha.example' to='bob@beta.example'><body>x</body></message>")
    element = fromstring(message.payload)
    assert element.get("from") == str(ANN)


def test_an_address_in_another_spelling_leaves_prepared() -> None:
    message = read("<message to='BOB@beta.example'><body>x</body></message>")
    assert fromstring(message.payload).get("to") == "bob@beta.example"


def test_stanza_ids_in_our_name_are_removed_and_others_stay() -> None:
    message = read(
        "<message to='bob@beta.example' type='chat'><body>x</body>"
        f"<stanza-id xmlns='{ns.STANZA_ID}' by='bob@beta.example' id='forged'/>"
        f"<stanza-id xmlns='{ns.STANZA_ID}' by='room@rooms.elsewhere.example' id='real'/></message>"
    )
    assert b"forged" not in message.payload
    assert b"real" in message.payload


@pytest.mark.parametrize(
    "wrapper",
    [
        f"<received xmlns='{ns.CARBONS}'/>",
        f"<sent xmlns='{ns.CARBONS}'/>",
        f"<result xmlns='{ns.ARCHIVE}' id='1'/>",
    ],
)
def test_wrappers_that_only_a_server_writes_are_removed(wrapper: str) -> None:
    message = read(f"<message to='bob@beta.example' type='chat'><body>x</body>{wrapper}</message>")
    assert [part.tag for part in fromstring(message.payload)] == ["body"]


def test_a_namespace_on_the_start_tag_is_not_doubled_when_it_is_wrapped() -> None:
    message = read(f"<message xmlns='{ns.CLIENT}' to='bob@beta.example'><body>x</body></message>")
    assert b"xmlns" not in message.payload


STORE_CASES = [
    ("<body>x</body>", "chat", ALL),
    ("<body>x</body>", "normal", ALL),
    (f"<encrypted xmlns='{ns.OMEMO}'/>", "chat", ALL),
    (f"<received xmlns='{ns.RECEIPTS}' id='1'/>", "chat", ALL),
    (f"<displayed xmlns='{ns.CHAT_MARKERS}' id='1'/>", "chat", ALL),
    (f"<composing xmlns='{ns.CHAT_STATES}'/>", "chat", Treatment.COPY),
    (f"<composing xmlns='{ns.CHAT_STATES}'/><thread>t</thread>", "chat", Treatment.COPY),
    (f"<body>x</body><no-store xmlns='{ns.HINTS}'/>", "chat", Treatment.COPY),
    (
        f"<body>x</body><no-permanent-store xmlns='{ns.HINTS}'/>",
        "chat",
        Treatment.KEEP | Treatment.COPY | Treatment.DURABLE,
    ),
    (f"<body>x</body><no-copy xmlns='{ns.HINTS}'/>", "chat", ALL & ~Treatment.COPY),
    (f"<body>x</body><private xmlns='{ns.CARBONS}'/>", "chat", ALL & ~Treatment.COPY),
    (f"<store xmlns='{ns.HINTS}'/>", "chat", ALL),
    ("<x xmlns='urn:example:event'/>", "normal", ALL & ~Treatment.COPY),
    ("<body>x</body>", "headline", Treatment.DURABLE),
    ("<error/>", "error", Treatment.DURABLE),
    ("<body>x</body><error/>", "error", Treatment.DURABLE | Treatment.COPY),
    (f"<body>x</body><private xmlns='{ns.CARBONS}'/><error/>", "error", Treatment.DURABLE),
    (f"<x xmlns='{ns.CONFERENCE}' jid='r@c.example'/>", "normal", ALL),
    (f"<x xmlns='{ns.MUC_USER}'><invite to='x@y.example'/></x>", "normal", ALL),
    (f"<propose xmlns='{ns.JINGLE_MESSAGE}' id='1'/>", "chat", ALL),
    (f"<received xmlns='{ns.RECEIPTS}' id='1'/>", "normal", ALL),
    (f"<displayed xmlns='{ns.CHAT_MARKERS}' id='1'/>", "normal", ALL),
    (f"<composing xmlns='{ns.CHAT_STATES}'/>", "normal", Treatment.COPY),
    (f"<encrypted xmlns='{ns.OMEMO_LEGACY}'/>", "chat", ALL),
    (f"<retract xmlns='{ns.RETRACTION}' id='1'/>", "chat", ALL),
    (f"<reactions xmlns='{ns.REACTIONS}' id='1'/>", "chat", ALL),
    ("<body>x</body>", "groupchat", Treatment.DURABLE),
]


@pytest.mark.parametrize(("content", "kind", "expected"), STORE_CASES)
def test_the_treatment_follows_type_and_content(content: str, kind: str, expected: Treatment) -> None:
    assert read(f"<message to='bob@beta.example' type='{kind}'>{content}</message>").treatment & ALL == expected


WHAT_CASES = [
    ("<body>x</body>", Treatment.INSTANT),
    (f"<encrypted xmlns='{ns.OMEMO}'/>", Treatment.INSTANT),
    (f"<body>x</body><replace xmlns='{ns.CORRECTION}' id='1'/>", Treatment(0)),
    (f"<body>x</body><reactions xmlns='{ns.REACTIONS}' id='1'/>", Treatment(0)),
    (f"<body>x</body><retract xmlns='{ns.RETRACTION}' id='1'/>", Treatment.RETRACTION),
    (f"<displayed xmlns='{ns.CHAT_MARKERS}' id='1'/>", Treatment.DISPLAYED),
    (f"<acknowledged xmlns='{ns.CHAT_MARKERS}' id='1'/>", Treatment.DISPLAYED),
    (f"<received xmlns='{ns.CHAT_MARKERS}' id='1'/>", Treatment(0)),
    (f"<received xmlns='{ns.RECEIPTS}' id='1'/>", Treatment(0)),
    (f"<composing xmlns='{ns.CHAT_STATES}'/>", Treatment(0)),
    (f"<body>x</body><markable xmlns='{ns.CHAT_MARKERS}'/>", Treatment.INSTANT),
]


@pytest.mark.parametrize(("content", "expected"), WHAT_CASES)
def test_what_a_message_is_follows_its_content(content: str, expected: Treatment) -> None:
    assert read(f"<message to='bob@beta.example' type='chat'>{content}</message>").treatment & ~ALL == expected


def test_a_private_message_of_a_room_is_not_copied_to_other_sessions_but_an_invitation_is() -> None:
    plain = f"<message to='bob@beta.example' type='chat'><body>x</body><x xmlns='{ns.MUC_USER}'/></message>"
    invite = f"<message to='bob@beta.example'><x xmlns='{ns.MUC_USER}'><invite from='a@b'/></x></message>"
    assert not read(plain, local=False, keep_raw=False).treatment & Treatment.COPY
    assert read(plain, local=True).treatment & Treatment.COPY
    assert read(invite, local=False, keep_raw=False).treatment & Treatment.COPY


def test_an_unknown_type_is_a_normal_message() -> None:
    assert read("<message to='bob@beta.example' type='strange'><body>x</body></message>").kind is Kind.NORMAL


def test_the_origin_id_is_read() -> None:
    message = read(
        f"<message to='bob@beta.example' type='chat'><body>x</body><origin-id xmlns='{ns.STANZA_ID}' id='o1'/></message>"
    )
    assert message.origin_id == "o1"


OMEMO_KEYS = f"<encrypted xmlns='{ns.OMEMO}'><header sid='1'><keys jid='bob@beta.example'/></header></encrypted>"
LEGACY_KEYS = f"<encrypted xmlns='{ns.OMEMO_LEGACY}'><header sid='1'><key rid='2'>AA==</key></header></encrypted>"
LEGACY_TEXT = f"<encrypted xmlns='{ns.OMEMO_LEGACY}'><header sid='1'><key rid='2'>AA==</key></header><payload>AA==</payload></encrypted>"


@pytest.mark.parametrize(
    "content",
    [
        OMEMO_KEYS,
        LEGACY_KEYS,
        LEGACY_TEXT,
        f"<encrypted xmlns='{ns.OMEMO}'/><store xmlns='{ns.HINTS}'/>",
        f"<encryption xmlns='{ns.ENCRYPTION}' namespace='urn:example:new'/><sealed xmlns='urn:example:new'/>",
        f"<openpgp xmlns='{ns.OPENPGP}'>AA==</openpgp>",
        f"<x xmlns='{ns.OPENPGP_LEGACY}'>AA==</x>",
    ],
)
@pytest.mark.parametrize("kind", ["chat", "normal"])
def test_what_is_encrypted_is_content_without_a_body(content: str, kind: str) -> None:
    message = read(f"<message to='bob@beta.example' type='{kind}'>{content}</message>")
    assert message.treatment == ALL | Treatment.INSTANT
    assert message.alert == Alert.CONTENT


CALL = f"xmlns='{ns.JINGLE_MESSAGE}' id='c1'"


@pytest.mark.parametrize("name", ["propose", "ringing", "proceed", "accept", "reject", "retract", "finish"])
@pytest.mark.parametrize("kind", ["chat", "normal"])
@pytest.mark.parametrize("hint", ["", f"<store xmlns='{ns.HINTS}'/>"])
def test_the_signalling_of_a_call_is_stored_and_copied_and_only_the_call_itself_wakes(
    name: str, kind: str, hint: str
) -> None:
    message = read(f"<message to='bob@beta.example' type='{kind}'><{name} {CALL}/>{hint}</message>")
    assert message.treatment == ALL
    assert message.alert == (Alert.CALL if name == "propose" else Alert.NONE)


INVITATION = f"<x xmlns='{ns.MUC_USER}'><invite to='bob@beta.example'/></x>"


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        ("<body>x</body>", "chat", Alert.CONTENT),
        ("<body>x</body>", "normal", Alert.CONTENT),
        ("<body>x</body>", "groupchat", Alert.CONTENT),
        ("<body>x</body>", "headline", Alert.NONE),
        ("<body>x</body><error type='cancel'/>", "error", Alert.NONE),
        ("<subject>x</subject>", "groupchat", Alert.NONE),
        (f"<composing xmlns='{ns.CHAT_STATES}'/>", "chat", Alert.NONE),
        (f"<active xmlns='{ns.CHAT_STATES}'/><body>x</body>", "chat", Alert.CONTENT),
        (f"<received xmlns='{ns.RECEIPTS}' id='1'/>", "chat", Alert.NONE),
        (f"<displayed xmlns='{ns.CHAT_MARKERS}' id='1'/>", "chat", Alert.NONE),
        (f"<body>x</body><markable xmlns='{ns.CHAT_MARKERS}'/>", "chat", Alert.CONTENT),
        (f"<retract xmlns='{ns.RETRACTION}' id='1'/><body>taken back</body>", "chat", Alert.NONE),
        (f"<reactions xmlns='{ns.REACTIONS}' id='1'/><body>+1</body>", "chat", Alert.NONE),
        (INVITATION, "normal", Alert.CONTENT),
        (f"<x xmlns='{ns.MUC_USER}'><decline/></x>", "normal", Alert.NONE),
        (f"<x xmlns='{ns.CONFERENCE}' jid='room@groups.beta.example'/>", "normal", Alert.CONTENT),
        (f"<store xmlns='{ns.HINTS}'/>", "chat", Alert.NONE),
        ("<x xmlns='urn:example:event'/>", "chat", Alert.NONE),
    ],
)
def test_only_content_wakes_a_device(content: str, kind: str, expected: Alert) -> None:
    assert read(f"<message to='bob@beta.example' type='{kind}'>{content}</message>").alert == expected
