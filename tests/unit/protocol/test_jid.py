"""Addresses: preparation, equality, refusal."""

import pytest

from homeserver.protocol.jid import JID, InvalidJID, ascii_domain, prepare_resource


@pytest.mark.parametrize(
    "text, local, domain, resource",
    [
        ("juliet@example.com", "juliet", "example.com", ""),
        ("juliet@example.com/foo", "juliet", "example.com", "foo"),
        ("juliet@example.com/foo bar", "juliet", "example.com", "foo bar"),
        ("juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"),
        ("juliet@example.com/a/b", "juliet", "example.com", "a/b"),
        ("foo\\20bar@example.com", "foo\\20bar", "example.com", ""),
        ("fussball@example.com", "fussball", "example.com", ""),
        ("fu\u00dfball@example.com", "fu\u00dfball", "example.com", ""),
        ("\u03c0@example.com", "\u03c0", "example.com", ""),
        ("\u03a3@example.com/foo", "\u03c3", "example.com", "foo"),
        ("king@example.com/\u265a", "king", "example.com", "\u265a"),
        ("example.com", "", "example.com", ""),
        ("example.com/foobar", "", "example.com", "foobar"),
        ("a.example.com/b@example.net", "", "a.example.com", "b@example.net"),
        ("Romeo@EXAMPLE.com/Home", "romeo", "example.com", "Home"),
        ("a@example.com.", "a", "example.com", ""),
        ("a@[::1]", "a", "[::1]", ""),
        ("a@127.0.0.1", "a", "127.0.0.1", ""),
        ("a@xn--bcher-kva.example", "a", "b\u00fccher.example", ""),
        ("a@B\u00dcCHER.example", "a", "b\u00fccher.example", ""),
    ],
)
def test_accepted(text: str, local: str, domain: str, resource: str) -> None:  # RFC 7622 s3.5
    jid = JID.parse(text)
    assert (jid.local, jid.domain, jid.resource) == (local, domain, resource)
    assert JID.parse(str(jid)) == jid


@pytest.mark.parametrize(
    "text",
    [
        '"juliet"@example.com',
        "foo bar@example.com",
        "juliet@example.com/",
        "@example.com/foobar",
        "henry\u2163@example.com",
        "\u265a@example.com",
        "juliet@",
        "/foobar",
        "",
        "@",
        "a@b@c",
        "a:b@c",
        "a<b@c",
        "a@exa mple.com",
        "a@[::zz]",
        "a@-bad-.example",
        "a\u200b@example.com",
        "x" * 1024 + "@example.com",
        "a@" + "x" * 64 + ".example",
        "a@example.com/" + "x" * 1024,
        "a@example.com/\u0007",
        "a@b/" + "x" * 4000,
    ],
)
def test_refused(text: str) -> None:  # RFC 7622 s3.5, S-63
    with pytest.raises(InvalidJID):
        JID.parse(text)


@pytest.mark.parametrize("spelling", ["ROMEO@a.example", "Romeo@A.EXAMPLE", "\uff52\uff4f\uff4d\uff45\uff4f@a.example"])
def test_spellings_of_one_account(spelling: str) -> None:  # S-48
    assert JID.parse(spelling) == JID.parse("romeo@a.example")


def test_parts() -> None:
    jid = JID.parse("romeo@a.example/x")
    assert not jid.is_bare
    assert jid.bare == "romeo@a.example"
    assert str(jid.to_bare()) == "romeo@a.example"
    assert jid.to_bare().is_bare
    assert str(jid.to_bare().with_resource("y")) == "romeo@a.example/y"
    assert hash(jid) == hash(JID("romeo", "a.example", "x"))
    assert jid != "romeo@a.example/x"
    assert repr(jid) == "JID('romeo@a.example/x')"


def test_domains_for_the_network() -> None:
    assert ascii_domain("a.example") == "a.example"
    assert ascii_domain("b\u00fccher.example") == "xn--bcher-kva.example"


def test_resources_keep_their_case() -> None:
    assert prepare_resource("Home \u2603") == "Home \u2603"
