"""Mechanisms: steps, identities, conditions of failure."""

import pytest

from homeserver.protocol.sasl import (
    MECHANISMS,
    Challenge,
    Offer,
    PasswordOffered,
    Proven,
    SaslFault,
    VerifierWanted,
    start_exchange,
)
from homeserver.protocol.scram import derive

OFFER = Offer("a.example", MECHANISMS, {"tls-server-end-point": b"x"}, downgrade_protection=False)


def condition(mechanism: str, *messages: bytes | None) -> str:
    with pytest.raises(SaslFault) as caught:
        _play(mechanism, messages)
    return caught.value.condition


def _play(mechanism: str, messages: tuple[bytes | None, ...]) -> None:
    exchange = start_exchange(mechanism, OFFER, "nonce")
    for message in messages:
        exchange.respond(message)


def test_plain() -> None:
    exchange = start_exchange("PLAIN", OFFER, "nonce")
    assert exchange.respond(None) == Challenge(b"")
    assert exchange.respond(b"\0Romeo\0pencil") == PasswordOffered("romeo", "pencil")
    assert exchange.answer(True) == Proven("romeo", None)
    with pytest.raises(SaslFault) as caught:
        exchange.answer(False)
    assert caught.value.condition == "not-authorized"


def test_passwords_stay_out_of_logs() -> None:
    assert "pencil" not in repr(PasswordOffered("romeo", "pencil"))
    assert "stored" not in repr(derive("p", b"s", 4096, "SHA-1"))


@pytest.mark.parametrize("message", [b"", b"\0", b"\0romeo", b"\0romeo\0", b"\0\0x", b"a\0b\0c\0d", b"\0\xff\0x"])
def test_malformed_plain(message: bytes) -> None:  # S-43
    assert condition("PLAIN", message) == "malformed-request"


@pytest.mark.parametrize("mechanism", ["", "plain", "DIGEST-MD5", "SCRAM-SHA-224", "EXTERNAL"])
def test_unknown_mechanisms(mechanism: str) -> None:  # S-40
    assert condition(mechanism) == "invalid-mechanism"


@pytest.mark.parametrize(
    "authzid", ["juliet@a.example", "romeo@b.example", "romeo@a.example/x", "romeo", "@", "a.example", "romeo@"]
)
def test_nobody_acts_for_another(authzid: str) -> None:  # S-43
    assert condition("PLAIN", f"{authzid}\0romeo\0x".encode()) == "invalid-authzid"
    assert condition("SCRAM-SHA-1", f"n,a={authzid},n=romeo,r=x".encode()) == "invalid-authzid"


def test_own_identity_may_be_named() -> None:
    assert start_exchange("PLAIN", OFFER, "n").respond(b"Romeo@A.example\0ROMEO\0x") == PasswordOffered("romeo", "x")


@pytest.mark.parametrize("name", ["a b", "a@b", "a/b", "x" * 2000, "\u0000x"])
def test_names_that_cannot_be(name: str) -> None:
    assert condition("SCRAM-SHA-1", f"n,,n={name},r=x".encode()) in ("not-authorized", "malformed-request")


def test_scram_steps() -> None:
    exchange = start_exchange("SCRAM-SHA-256", OFFER, "nonce")
    assert exchange.respond(b"n,,n=Romeo,r=x") == VerifierWanted("romeo", "SHA-256")
    step = exchange.answer(derive("p", b"s" * 16, 4096, "SHA-256"))
    assert isinstance(step, Challenge)
    assert step.data.startswith(b"r=xnonce,")
    assert condition("SCRAM-SHA-256", b"n,,n=romeo,r=x", b"n,,n=romeo,r=x") == "malformed-request"
