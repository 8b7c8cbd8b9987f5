"""Entity capabilities (XEP-0115 s5)."""

import hashlib
from base64 import b64encode

import pytest

from homeserver.protocol.caps import (
    MAX_INTERESTS,
    MAX_PARTS,
    Advertised,
    IllFormed,
    advertised,
    read,
    verification_string,
)
from tests.kit.fakes import wire

EXODUS = """<query xmlns='http://jabber.org/protocol/disco#info'>
    <identity category='client' name='Exodus 0.9.1' type='pc'/>
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>
    <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/></query>"""
PSI = """<query xmlns='http://jabber.org/protocol/disco#info'>
    <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
    <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
    <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>
    <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>
    <x xmlns='jabber:x:data' type='result'>
    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
    <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>
    <field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field>
    <field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field></x>
    </query>"""


def info(*features: str, more: str = "") -> str:
    """A disco#info answer of a client."""
    said = "".join(f"<feature var='{name}'/>" for name in features)
    return (
        "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc' name='T'/>"
        f"{said}{more}</query>"
    )


def ver_of(text: str, algorithm: str = "sha-1") -> Advertised:
    return Advertised(algorithm, "https://client.example", verification_string(wire(text.encode()), algorithm))


@pytest.mark.parametrize(
    ("text", "ver"), [(EXODUS, "QgayPKawpkPSDYmwT/WM94uAlu0="), (PSI, "q07IKJEyjvHSyhy//CH0CxmKi8w=")]
)
def test_the_examples_of_the_specification(text: str, ver: str) -> None:
    """XEP-0115 s5.2, s5.3."""
    query = wire(text.encode())
    assert verification_string(query) == ver
    assert read(query, Advertised("sha-1", "http://psi-im.org", ver)).is_verified


@pytest.mark.parametrize("algorithm", ["sha-1", "sha-256", "sha-512"])
def test_interests_are_the_features_that_end_in_notify(algorithm: str) -> None:
    text = info("urn:a+notify", "urn:b", "+notify", "urn:c+notify")
    answer = read(wire(text.encode()), ver_of(text, algorithm))
    assert answer == (frozenset(("urn:a", "urn:c")), True)


def test_another_answer_than_was_advertised_proves_nothing() -> None:
    """S-71: the answer is worth something for who gave it only."""
    answer = read(wire(info("urn:evil+notify").encode()), ver_of(info("urn:a+notify")))
    assert answer == (frozenset(("urn:evil",)), False)


@pytest.mark.parametrize("algorithm", ["", "md5", "sha3-256"])
def test_unknown_hashes_prove_nothing(algorithm: str) -> None:
    said = Advertised(algorithm, "https://client.example", "1.0")
    assert not said.is_verifiable
    assert read(wire(info("urn:a+notify").encode()), said) == (frozenset(("urn:a",)), False)


def test_the_same_text_in_other_words_means_the_same() -> None:
    """S-71: an answer with the right hash that hides interests in a form, or in a value with ``<``, hides nothing."""
    honest = info("urn:a", "urn:b+notify", "urn:c", "urn:d+notify")
    said = ver_of(honest)
    form = (
        "<x xmlns='jabber:x:data' type='result'>"
        "<field var='FORM_TYPE' type='hidden'><value>urn:b+notify</value></field>"
        "<field var='urn:c'><value>urn:d+notify</value></field></x>"
    )
    for disguised in (info("urn:a", more=form), info("urn:a&lt;urn:b+notify", "urn:c&lt;urn:d+notify")):
        assert read(wire(disguised.encode()), said) == (frozenset(("urn:b", "urn:d")), True)


@pytest.mark.parametrize(
    "text",
    [
        info("urn:a", "urn:a"),
        info("urn:a", more="<identity category='client' type='pc' name='T'/>"),
        info(more="<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>f</value></field></x>" * 2),
        info(
            more="<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'>"
            "<value>f</value><value>g</value></field></x>"
        ),
    ],
)
def test_what_is_said_twice_is_ill_formed(text: str) -> None:
    """XEP-0115 s5.4."""
    with pytest.raises(IllFormed):
        read(wire(text.encode()), ver_of(text))


def test_forms_without_a_hidden_type_are_ignored() -> None:
    """XEP-0115 s5.4."""
    plain = info("urn:a")
    for form in (
        "<x xmlns='jabber:x:data'><field var='os'><value>Mac</value></field></x>",
        "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>f</value></field></x>",
    ):
        assert read(wire(info("urn:a", more=form).encode()), ver_of(plain)).is_verified


@pytest.mark.parametrize(
    "text",
    [
        info(*(f"urn:{number}" for number in range(MAX_PARTS + 1))),
        info(*(f"urn:{number}+notify" for number in range(MAX_INTERESTS + 1))),
        info(*("x" * 1000 + str(number) for number in range(200))),
        info(more="<x xmlns='jabber:x:data'>" + "<field/>" * (MAX_PARTS + 1) + "</x>"),
    ],
)
def test_too_much_is_ill_formed(text: str) -> None:
    """S-161."""
    with pytest.raises(IllFormed):
        read(wire(text.encode()), Advertised("sha-1", "n", "v"))


def test_what_a_presence_advertises() -> None:
    c = "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:n' ver='v=='/>"
    found = advertised(wire(f"<presence>{c}</presence>".encode()))
    assert found == ("sha-1", "urn:n", "v==")
    assert found is not None
    assert found.query_node == "urn:n#v=="
    for presence in ("<presence/>", f"<presence>{c.replace('v==', 'v' * 1025)}</presence>"):
        assert advertised(wire(presence.encode())) is None
    for name in ("ver", "node"):
        assert advertised(wire(f"<presence>{c.replace(name, 'other')}</presence>".encode())) is None


def test_the_text_is_hashed_as_the_specification_says() -> None:
    text = "client/pc//T<urn:a<"
    assert ver_of(info("urn:a"), "sha-256").ver == b64encode(hashlib.sha256(text.encode()).digest()).decode()
