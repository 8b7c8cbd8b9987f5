"""SCRAM against scramp and the examples of the RFCs."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient

from homeserver.protocol.saslprep import prepare_password
from homeserver.protocol.scram import (
    SaslFault,
    ScramServer,
    ScramSetting,
    Verifier,
    decoy_verifier,
    derive,
    downgrade_hash,
    password_matches,
)

CERTIFICATE = b"digest of the certificate"


def server(hash_name: str = "SHA-256", **changes: object) -> ScramServer:
    return ScramServer(ScramSetting(hash_name, "servernonce", **changes))  # type: ignore[arg-type]


def test_rfc5802_example() -> None:
    verifier = derive("pencil", base64.b64decode("QSXCR+Q6sek8bf92"), 4096, "SHA-1")
    exchange = ScramServer(ScramSetting("SHA-1", "3rfcNHYJY1ZVvWVs7j"))
    assert exchange.first(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL") == "user"
    assert exchange.challenge(verifier) == b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    final = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert exchange.final(final) == b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="


def test_rfc7677_example() -> None:
    verifier = derive("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096, "SHA-256")
    exchange = ScramServer(ScramSetting("SHA-256", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"))
    exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    exchange.challenge(verifier)
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert exchange.final(final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@settings(deadline=None, max_examples=20)
@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    password=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
    hash_name=st.sampled_from(["SHA-1", "SHA-256", "SHA-512"]),
    plus=st.booleans(),
)
def test_scramp_logs_in(user: str, password: str, hash_name: str, plus: bool) -> None:
    mechanism = f"SCRAM-{hash_name}" + ("-PLUS" if plus else "")
    binding = ("tls-server-end-point", CERTIFICATE) if plus else None
    client = ScramClient([mechanism], user, password, channel_binding=binding)
    exchange = server(hash_name, plus=plus, plus_offered=plus, bindings={"tls-server-end-point": CERTIFICATE})
    assert exchange.first(client.get_client_first().encode()) == user
    client.set_server_first(exchange.challenge(derive(password, b"salt" * 4, 4096, hash_name)).decode())
    client.set_server_final(exchange.final(client.get_client_final().encode()).decode())
    assert exchange.is_bound is plus


def test_a_wrong_password_and_a_decoy_are_refused_alike() -> None:
    for verifier in (derive("right", b"s" * 16, 4096, "SHA-256"), decoy_verifier(b"key", "nobody", 4096, "SHA-256")):
        client = ScramClient(["SCRAM-SHA-256"], "romeo", "wrong")
        exchange = server()
        exchange.first(client.get_client_first().encode())
        client.set_server_first(exchange.challenge(verifier).decode())
        with pytest.raises(SaslFault) as caught:
            exchange.final(client.get_client_final().encode())
        assert caught.value.condition == "not-authorized"


def test_decoys_are_stable_and_differ() -> None:  # S-41
    one = decoy_verifier(b"key", "a@x", 4096, "SHA-1")
    assert one == decoy_verifier(b"key", "a@x", 4096, "SHA-1")
    assert one.salt != decoy_verifier(b"key", "b@x", 4096, "SHA-1").salt
    assert one.salt != decoy_verifier(b"other", "a@x", 4096, "SHA-1").salt
    assert len(one.stored_key) == 20


@pytest.mark.parametrize(
    "message, condition",
    [
        (b"", "malformed-request"),
        (b"n,", "malformed-request"),
        (b"n,,r=x,n=user", "malformed-request"),
        (b"n,,n=,r=x", "malformed-request"),
        (b"n,,n=user", "malformed-request"),
        (b"n,,n=user,r=", "malformed-request"),
        (b"n,,m=ext,n=user,r=x", "malformed-request"),
        (b"n,,n=us=er,r=x", "malformed-request"),
        (b"n,,n=user,r=\xff", "malformed-request"),
        (b"n,,n=us\0er,r=x", "malformed-request"),
        (b"n,b=x,n=user,r=x", "malformed-request"),
        (b"x,,n=user,r=x", "malformed-request"),
        (b"p=tls-server-end-point,,n=user,r=x", "malformed-request"),
        (b"y,,n=user,r=x", "not-authorized"),
    ],
)
def test_first_messages_that_are_refused(message: bytes, condition: str) -> None:  # S-43, S-44
    with pytest.raises(SaslFault) as caught:
        server(plus_offered=True).first(message)
    assert caught.value.condition == condition


def test_y_is_fine_where_plus_was_not_offered() -> None:
    assert server().first(b"y,,n=user,r=x") == "user"


def test_escapes_in_names() -> None:
    assert server().first(b"n,,n=a=2Cb=3D,r=x") == "a,b="


@pytest.mark.parametrize("flag", [b"n", b"y", b"p=tls-unique"])
def test_plus_demands_an_offered_binding(flag: bytes) -> None:
    with pytest.raises(SaslFault):
        server(plus=True, plus_offered=True, bindings={"tls-server-end-point": CERTIFICATE}).first(
            flag + b",,n=user,r=x"
        )


def _finals(verifier: Verifier, header: bytes, binding: bytes, change: str) -> bytes:
    """A right last message made from the stored key alone is impossible; from the password it is this."""
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", verifier.salt, verifier.iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    nonce = "xservernonce" if change != "nonce" else "xothernonce"
    bound = header + (binding if change != "binding" else b"another certificate")
    text = f"c={base64.b64encode(bound).decode()},r={nonce}"
    challenge = f"r=xservernonce,s={base64.b64encode(verifier.salt).decode()},i={verifier.iterations}"
    message = f"n=user,r=x,{challenge},{text}".encode()
    signature = hmac.digest(verifier.stored_key, message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    if change == "proof":
        proof = bytes([proof[0] ^ 1]) + proof[1:]
    elif change == "short":
        proof = proof[:-1]
    elif change == "empty":
        proof = b""
    return f"{text},p={base64.b64encode(proof).decode()}".encode()


@pytest.mark.parametrize("change", ["", "nonce", "binding", "proof", "short", "empty"])
def test_every_part_of_the_last_message_counts(change: str) -> None:  # S-44, S-49
    verifier = derive("pencil", b"s" * 16, 4096, "SHA-256")
    exchange = server(plus=True, plus_offered=True, bindings={"tls-server-end-point": CERTIFICATE})
    header = b"p=tls-server-end-point,,"
    exchange.first(header + b"n=user,r=x")
    exchange.challenge(verifier)
    final = _finals(verifier, header, CERTIFICATE, change)
    if not change:
        assert exchange.final(final).startswith(b"v=")
        return
    with pytest.raises(SaslFault) as caught:
        exchange.final(final)
    assert caught.value.condition == "not-authorized"


@pytest.mark.parametrize("message", [b"", b"c=biws", b"c=biws,r=x", b"c=!,r=x,p=x", b"r=x,c=biws,p=AAAA", b"\xff"])
def test_last_messages_that_are_no_such_thing(message: bytes) -> None:
    exchange = server()
    exchange.first(b"n,,n=user,r=x")
    exchange.challenge(derive("p", b"s" * 16, 4096, "SHA-256"))
    with pytest.raises(SaslFault):
        exchange.final(message)


def test_downgrade_hash_of_the_specification() -> None:  # XEP-0474 s6.3
    mechanisms = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-1")
    bindings = ("tls-server-end-point", "tls-exporter")
    assert downgrade_hash(mechanisms, bindings, "SHA-1") == "G6k/rBLDqgOhRRaCuuatSDFkJ08="
    exchange = server("SHA-1", advertised="abc")
    exchange.first(b"n,,n=user,r=x")
    assert exchange.challenge(derive("p", b"s" * 16, 4096, "SHA-1")).endswith(b",i=4096,h=abc")


def test_iterations_are_bounded() -> None:  # S-50
    for iterations in (0, 4095, 10**9):
        with pytest.raises(ValueError, match="iterations"):
            derive("p", b"s", iterations, "SHA-1")


def test_password_matches() -> None:
    verifier = derive("r\u00e9", b"s" * 16, 4096, "SHA-256")
    assert password_matches("re\u0301", verifier, "SHA-256")
    assert not password_matches("re", verifier, "SHA-256")
    assert not password_matches("", verifier, "SHA-256")


@pytest.mark.parametrize(
    "text, prepared",
    [
        ("I\u00adX", "IX"),  # RFC 4013 s3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_passwords_are_prepared(text: str, prepared: str) -> None:
    assert prepare_password(text) == prepared


@pytest.mark.parametrize("text", ["", "\u0007", "\u06271", "\u00ad", "a\ue000"])
def test_passwords_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="password"):
        prepare_password(text)
