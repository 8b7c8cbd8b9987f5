"""Stanzas, results and errors."""

from homeserver.protocol import namespaces as ns
from homeserver.protocol.jid import JID
from homeserver.protocol.stanza import (
    DEFAULT_TYPES,
    ErrorType,
    Stanza,
    StanzaError,
    error_of,
    error_reply,
    result,
)
from homeserver.protocol.xml import element, serialise

ROMEO = JID.parse("romeo@a.example/x")
JULIET = JID.parse("juliet@b.example")


def request() -> Stanza:
    made = element(ns.CLIENT, "iq", {"type": "get", "id": "1", "from": "forged@a.example"}, element("u", "q"))
    return Stanza(made, ROMEO, JULIET)


def test_fields() -> None:
    stanza = request()
    assert (stanza.name, stanza.type, stanza.id, stanza.raw) == ("iq", "get", "1", None)
    payload = stanza.payload()
    assert payload is not None
    assert payload.tag == "{u}q"
    assert Stanza(element(ns.CLIENT, "iq"), ROMEO, None).payload() is None


def test_encode_writes_the_true_addresses_and_leaves_the_element_alone() -> None:
    stanza = request()
    text = stanza.encode().decode()
    assert "from='romeo@a.example/x'" in text
    assert "to='juliet@b.example'" in text
    assert "<q xmlns='u'/>" in text
    assert stanza.element.get("from") == "forged@a.example"


def test_result() -> None:
    text = serialise(result(request(), element("u", "q")))
    assert text == "<iq type='result' id='1' from='juliet@b.example' to='romeo@a.example/x'><q xmlns='u'/></iq>"
    assert "from='romeo@a.example'" in serialise(result(Stanza(element(ns.CLIENT, "iq"), ROMEO, None)))


def test_error_reply() -> None:
    reply = error_reply(request(), StanzaError("item-not-found", text="gone & lost", application=element("u", "why")))
    assert serialise(reply) == (
        "<iq type='error' to='romeo@a.example/x' id='1' from='juliet@b.example'><error type='cancel' code='404'>"
        f"<item-not-found xmlns='{ns.STANZA_ERRORS}'/>"
        f"<text xmlns='{ns.STANZA_ERRORS}' xml:lang='en'>gone &amp; lost</text><why xmlns='u'/></error></iq>"
    )
    assert error_of(reply) == "item-not-found"
    assert error_of(request().element) is None


def test_every_condition_has_a_type() -> None:
    assert len(DEFAULT_TYPES) == 22
    for condition in DEFAULT_TYPES:
        made = StanzaError(condition).to_element()
        assert made.get("type") == DEFAULT_TYPES[condition].value
    assert StanzaError("conflict", ErrorType.WAIT).to_element().get("type") == "wait"
