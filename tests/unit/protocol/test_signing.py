"""The fixed profile of RFC 9421, against an independent implementation and against everything it must refuse."""

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ED25519
from http_message_signatures.structures import CaseInsensitiveDict

from homeserver.protocol.signing import (
    SKEW,
    RequestSignature,
    SignatureRefused,
    SigningKey,
    content_digest,
    read_answer,
    read_request,
    sign_answer,
    sign_request,
)

KEY = SigningKey("ed25519-1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey("ed25519-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
URL = "https://b.example/federation/v1/transactions/a.example/1763600000000"
BODY = b'{"origin":"a.example"}'
NOW = 1_763_600_000
Lines = list[tuple[bytes, bytes]]


def lines(headers: dict[str, str]) -> Lines:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def signed(body: bytes | None = BODY, coding: str | None = None, key: SigningKey = KEY) -> dict[str, str]:
    return sign_request(key, "PUT", URL, "a.example", "b.example", NOW, body, coding=coding).headers


def check(
    headers: Lines, body: bytes = BODY, url: str = URL, method: str = "PUT", now: float = NOW
) -> RequestSignature:
    """All that a receiver checks."""
    found = read_request(method, url, headers)
    found.check_time(now)
    found.verify(KEY.private.public_key())
    found.check_body(body)
    return found


def oracle() -> HTTPMessageVerifier:
    """Verifies with the library; the fixed times of these tests are long past."""
    verifier = HTTPMessageVerifier(signature_algorithm=ED25519, key_resolver=resolver())
    verifier.max_clock_skew = datetime.timedelta(days=36500)
    return verifier


def resolver() -> MappingKeyResolver:
    return MappingKeyResolver(
        public_keys={KEY.id: KEY.private.public_key()},
        private_keys={KEY.id: KEY.private},
    )


def message(headers: dict[str, str], **more: Any) -> Any:
    return SimpleNamespace(method="PUT", url=URL, headers=CaseInsensitiveDict(headers), **more)


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_oracle_verifies_our_request(coding: str | None) -> None:
    request = message(signed(coding=coding), body=BODY)
    found = oracle().verify(request, max_age=datetime.timedelta(days=36500), expect_tag="parley-federation")[0]
    assert '"@target-uri"' in found.covered_components
    assert '"content-digest"' in found.covered_components


def test_we_verify_the_oracles_request() -> None:
    names = ["@method", "@target-uri", "content-type", "content-digest", "parley-origin", "parley-destination"]
    headers = {
        "Content-Type": "application/json",
        "Content-Digest": content_digest(BODY),
        "Parley-Origin": "a.example",
        "Parley-Destination": "b.example",
    }
    request = message(headers, body=BODY)
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=resolver()).sign(
        request,
        key_id=KEY.id,
        created=datetime.datetime.fromtimestamp(NOW, datetime.UTC),
        expires=datetime.datetime.fromtimestamp(NOW + 60, datetime.UTC),
        label="parley",
        tag="parley-federation",
        include_alg=True,
        use_existing_digest=True,
        covered_component_ids=names,
    )
    check(lines(dict(request.headers)))


def test_oracle_verifies_our_answer() -> None:
    asked = sign_request(KEY, "PUT", URL, "a.example", "b.example", NOW, BODY)
    answer = sign_answer(KEY, 200, b"{}", "PUT", URL, asked.signature, NOW)
    request = message(asked.headers)
    response = SimpleNamespace(
        status_code=200, url=URL, headers=CaseInsensitiveDict(answer.headers), request=request, body=b"{}"
    )
    found = oracle().verify(response, max_age=datetime.timedelta(days=36500))[0]
    assert '"@status"' in found.covered_components


def test_request_round_trip() -> None:
    found = check(lines(signed()))
    assert (found.origin, found.destination, found.key_id) == ("a.example", "b.example", KEY.id)


def test_request_without_body() -> None:
    headers = sign_request(KEY, "POST", URL, "a.example", "b.example", NOW).headers
    assert check(lines(headers), b"", method="POST").digest is None
    with pytest.raises(SignatureRefused):
        check(lines(headers), b"x", method="POST")


def without(name: str) -> Callable[[Lines], Lines]:
    return lambda found: [line for line in found if line[0].lower() != name.encode()]


def replaced(name: str, old: str, new: str) -> Callable[[Lines], Lines]:
    def change(found: Lines) -> Lines:
        return [
            (key, value.replace(old.encode(), new.encode())) if key.lower() == name.encode() else (key, value)
            for key, value in found
        ]

    return change


def added(name: str, value: str) -> Callable[[Lines], Lines]:
    return lambda found: [*found, (name.encode(), value.encode())]


SPOILT: dict[str, Callable[[Lines], Lines]] = {
    "no method covered": replaced("signature-input", '"@method" ', ""),
    "no target covered": replaced("signature-input", '"@target-uri" ', ""),
    "no digest covered": replaced("signature-input", '"content-digest" ', ""),
    "no created": replaced("signature-input", f";created={NOW}", ""),
    "no expires": replaced("signature-input", f";expires={NOW + 60}", ""),
    "no tag": replaced("signature-input", ';tag="parley-federation"', ""),
    "other tag": replaced("signature-input", "parley-federation", "other"),
    "other algorithm": replaced("signature-input", 'ed25519";tag', 'hmac-sha256";tag'),
    "other component order": replaced("signature-input", '"@method" "@target-uri"', '"@target-uri" "@method"'),
    "component twice": replaced("signature-input", '"@method" ', '"@method" "@method" '),
    "created moved": replaced("signature-input", f"created={NOW}", f"created={NOW - 1}"),
    "created as a decimal": replaced("signature-input", f"created={NOW}", f"created={NOW}.0"),
    "nonce added": replaced("signature-input", ';tag="', ';nonce="x";tag="'),
    "other label": replaced("signature-input", "parley=(", "sig1=("),
    "two labels": replaced("signature-input", "parley=(", "sig1=(), parley=("),
    "signature under another label": replaced("signature", "parley=:", "sig1=:"),
    "two signatures in one line": replaced("signature", "parley=:", "parley=:AAAA:, parley=:"),
    "two signature headers": added("Signature", "parley=:AAAA:"),
    "two input headers": added("SIGNATURE-INPUT", "parley=()"),
    "two digests": added("content-digest", content_digest(b"")),
    "no signature": without("signature"),
    "no signature input": without("signature-input"),
    "no digest": without("content-digest"),
    "no origin": without("parley-origin"),
    "digest of another body": replaced("content-digest", content_digest(BODY)[9:], content_digest(b"x")[9:]),
    "digest of another kind": replaced("content-digest", "sha-256", "sha-512"),
    "digest unpadded": replaced("content-digest", "=:", ":"),
    "origin changed": replaced("parley-origin", "a.example", "c.example"),
    "destination changed": replaced("parley-destination", "b.example", "c.example"),
    "type changed": replaced("content-type", "application/json", "text/json"),
    "coding added": added("Content-Encoding", "gzip"),
    "origin folded": replaced("parley-origin", "a.example", "a.exa\r\n mple"),
    "origin padded": replaced("parley-origin", "a.example", " a.example"),
    "origin not ASCII": replaced("parley-origin", "a.example", "\u00e4.example"),
    "key id injected": replaced("signature-input", 'keyid="ed25519-1"', 'keyid="ed25519-1";keyid="x"'),
    "key id quoted out": replaced("signature-input", 'keyid="ed25519-1"', 'keyid="ed\\"25519"'),
    "signature cut": replaced("signature", "==:", ":"),
    "signature with stray bits": lambda found: [
        (name, value[:-4] + bytes([value[-4] + 1]) + value[-3:]) if name == b"Signature" else (name, value)
        for name, value in found
    ],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_spoilt_request_is_refused(spoil: Callable[[Lines], Lines]) -> None:
    before = lines(signed())
    after = spoil(before)
    assert after != before
    with pytest.raises(SignatureRefused):
        check(after)


def test_other_method_target_body_and_key_are_refused() -> None:
    good = lines(signed())
    check(good)
    for kind in (
        {"method": "POST"},
        {"url": URL.replace("b.example", "c.example")},
        {"url": URL + "?x"},
        {"body": b""},
    ):
        with pytest.raises(SignatureRefused):
            check(good, **kind)  # type: ignore[arg-type]
    with pytest.raises(SignatureRefused):
        check(lines(signed(key=OTHER)))


@pytest.mark.parametrize(
    ("off", "accepted"), [(0, True), (120, True), (-120, True), (SKEW + 59, True), (600, False), (-600, False)]
)
def test_time_window(off: int, accepted: bool) -> None:
    if accepted:
        check(lines(signed()), now=NOW + off)
    else:
        with pytest.raises(SignatureRefused):
            check(lines(signed()), now=NOW + off)


@pytest.mark.parametrize("lifetime", [0, -1, 301, 10**9])
def test_odd_lifetimes_are_refused(lifetime: int) -> None:
    headers = sign_request(KEY, "PUT", URL, "a.example", "b.example", NOW, BODY, lifetime=lifetime).headers
    with pytest.raises(SignatureRefused):
        check(lines(headers))


def test_answer_is_bound_to_its_request() -> None:
    first = sign_request(KEY, "PUT", URL, "a.example", "b.example", NOW, BODY)
    second = sign_request(KEY, "PUT", URL, "a.example", "b.example", NOW + 1, BODY)
    headers = lines(sign_answer(KEY, 200, b"{}", "PUT", URL, first.signature, NOW).headers)
    read_answer(200, headers, b"{}", "PUT", URL, first.signature).verify(KEY.private.public_key())
    for status, body, method, url, signature in (
        (201, b"{}", "PUT", URL, first.signature),
        (200, b"{ }", "PUT", URL, first.signature),
        (200, b"{}", "POST", URL, first.signature),
        (200, b"{}", "PUT", URL + "1", first.signature),
        (200, b"{}", "PUT", URL, second.signature),
    ):
        with pytest.raises(SignatureRefused):
            read_answer(status, headers, body, method, url, signature).verify(KEY.private.public_key())


def test_a_request_signature_is_no_answer() -> None:
    with pytest.raises(SignatureRefused):
        read_answer(200, lines(signed()), BODY, "PUT", URL, "")
