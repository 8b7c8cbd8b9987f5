"""HTTP message signatures in one fixed form (RFC 9421, RFC 9530), Ed25519 only.

Nothing here is negotiated. A request and an answer each have exactly one way to be signed, and `read_request` and
`read_answer` accept the canonical serialisation (RFC 8941 s4.1) of that one way and nothing else: one signature with
the label ``parley``, the covered components in the order below, and the parameters ``created``, ``expires``, ``keyid``,
``alg``, ``tag``, each once, in any order (libraries do not let their users choose it). Whatever a verifier would have to be lenient about is refused: a second header line of a
covered name, folded lines, other labels beside ours, other algorithms. The bytes that are signed are the bytes that
are parsed; no body is ever brought into a canonical form.

A request covers ``@method``, ``@target-uri``, then where there is a body ``content-type``, ``content-digest`` and,
where there is a content coding, ``content-encoding``, then ``parley-origin`` and ``parley-destination``. The digest is
over the coded bytes. An answer covers ``@status``, ``content-digest`` and of its request the method, the target and
the signature, so that an answer proves nothing for any other request.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LABEL: Final = "parley"
TAG: Final = "parley-federation"
ORIGIN_HEADER: Final = "Parley-Origin"
DESTINATION_HEADER: Final = "Parley-Destination"
DEFAULT_LIFETIME: Final = 60
"""Seconds between ``created`` and ``expires`` of what we sign."""
MAX_LIFETIME: Final = 300
"""Seconds between ``created`` and ``expires`` that a verifier takes."""
SKEW: Final = 300
"""Seconds that the clocks of two servers may differ."""

_ENDS: Final = ("parley-origin", "parley-destination")
_EMPTY: Final = ("@method", "@target-uri", *_ENDS)
_PLAIN: Final = ("@method", "@target-uri", "content-type", "content-digest", *_ENDS)
_CODED: Final = ("@method", "@target-uri", "content-type", "content-digest", "content-encoding", *_ENDS)


def _inner_list(components: tuple[str, ...]) -> str:
    return "(" + " ".join(f'"{name}"' for name in components) + ")"


_REQUEST_LISTS: Final = {_inner_list(components): components for components in (_EMPTY, _PLAIN, _CODED)}
_ANSWER_LIST: Final = '("@status" "content-digest" "@method";req "@target-uri";req "signature";key="parley";req)'

_INPUT: Final = re.compile(
    r"parley=(?P<list>\([^()]*\))"
    r"(?:;created=(?P<created>[1-9][0-9]{0,14})|;expires=(?P<expires>[1-9][0-9]{0,14})"
    r'|;keyid="(?P<keyid>[A-Za-z0-9._:-]{1,128})"|;alg="(?P<alg>ed25519)"|;tag="(?P<tag>parley-federation)"){5}'
)
_SIGNATURE: Final = re.compile(r"parley=(:[A-Za-z0-9+/]{86}==:)")
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_FIELD_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OURS: Final = frozenset(("content-type", "content-digest", "content-encoding", "signature", "signature-input", *_ENDS))


class SignatureRefused(Exception):
    """The message is not signed as it must be. The text is for the log, not for the peer."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the id under which its public half is published."""

    id: str
    private: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Signed:
    """Headers to add to a message, and the signature as it stands in them (``:base64:``), which answers refer to."""

    headers: dict[str, str]
    signature: str


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """What a request claims, read but not yet believed.

    Call `check_time`, then `verify` with the key of ``origin`` named ``key_id``, then `check_body` with the bytes as
    they came, before any decoding. ``digest`` is None for a request without a body. ``coding`` is the content coding
    or None. ``text`` is the signature as it stands in the header.
    """

    origin: str
    destination: str
    key_id: str
    created: int
    expires: int
    digest: bytes | None
    content_type: str | None
    coding: str | None
    text: str
    base: bytes

    def check_time(self, now: float) -> None:
        """Refuse what is too old, from the future, or valid for too long. Raises `SignatureRefused`."""
        _check_time(self.created, self.expires, now)

    def verify(self, key: Ed25519PublicKey) -> None:
        """Raises `SignatureRefused`."""
        _verify(key, self.text, self.base)

    def check_body(self, body: bytes) -> None:
        """Compare the digest with the coded bytes. Raises `SignatureRefused`."""
        _check_digest(self.digest, body)


@dataclass(frozen=True, slots=True)
class AnswerSignature:
    """What an answer claims; used like `RequestSignature`. The digest has been compared already."""

    key_id: str
    created: int
    expires: int
    text: str
    base: bytes

    def check_time(self, now: float) -> None:
        """Raises `SignatureRefused`."""
        _check_time(self.created, self.expires, now)

    def verify(self, key: Ed25519PublicKey) -> None:
        """Raises `SignatureRefused`."""
        _verify(key, self.text, self.base)


def content_digest(body: bytes) -> str:
    """The value of ``Content-Digest`` (RFC 9530 s2), sha-256."""
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode("ascii") + ":"


def sign_request(
    key: SigningKey,
    method: str,
    target_uri: str,
    origin: str,
    destination: str,
    created: int,
    body: bytes | None = None,
    content_type: str = "application/json",
    coding: str | None = None,
    lifetime: int = DEFAULT_LIFETIME,
) -> Signed:
    """Sign a request. ``body`` is the coded bytes or None; domains are A-labels; ``created`` in whole seconds."""
    headers = {ORIGIN_HEADER: origin, DESTINATION_HEADER: destination}
    components: tuple[str, ...] = _EMPTY
    if body is not None:
        components = _PLAIN
        headers["Content-Type"] = content_type
        headers["Content-Digest"] = content_digest(body)
        if coding is not None:
            components = _CODED
            headers["Content-Encoding"] = coding
    values = {name.lower(): value for name, value in headers.items()}
    values["@method"] = method
    values["@target-uri"] = target_uri
    parameters = _inner_list(components) + _parameters(key, created, lifetime)
    return _signed(headers, key, parameters, _request_base(components, values, parameters))


def sign_answer(
    key: SigningKey,
    status: int,
    body: bytes,
    method: str,
    target_uri: str,
    request_signature: str,
    created: int,
    lifetime: int = DEFAULT_LIFETIME,
) -> Signed:
    """Sign the answer to the request that carried ``request_signature`` (``:base64:``)."""
    headers = {"Content-Digest": content_digest(body)}
    parameters = _ANSWER_LIST + _parameters(key, created, lifetime)
    base = _answer_base(status, headers["Content-Digest"], method, target_uri, request_signature, parameters)
    return _signed(headers, key, parameters, base)


def read_request(method: str, target_uri: str, headers: Iterable[tuple[bytes, bytes]]) -> RequestSignature:
    """Read the signature of a request from its header lines, names in any case, values as received.

    ``target_uri`` is the one the receiver knows itself by, never one made from the Host header. Raises
    `SignatureRefused`.
    """
    values = _single_values(headers)
    match = _input(values)
    components = _REQUEST_LISTS.get(match["list"])
    if components is None:
        raise SignatureRefused("covers other components than the profile asks for")
    for name in ("content-type", "content-digest", "content-encoding", *_ENDS):
        if (name in components) != (name in values):
            raise SignatureRefused(f"{name} is present and not covered, or covered and not present")
    text = _match(_SIGNATURE, values, "signature")[1]
    digest = None
    if "content-digest" in components:
        digest = _decode(_match(_DIGEST, values, "content-digest")[1])
    values["@method"] = method
    values["@target-uri"] = target_uri
    parameters = match.string[len(LABEL) + 1 :]
    return RequestSignature(
        origin=values["parley-origin"],
        destination=values["parley-destination"],
        key_id=match["keyid"],
        created=int(match["created"]),
        expires=int(match["expires"]),
        digest=digest,
        content_type=values.get("content-type"),
        coding=values.get("content-encoding"),
        text=text,
        base=_request_base(components, values, parameters),
    )


def read_answer(
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    method: str,
    target_uri: str,
    request_signature: str,
) -> AnswerSignature:
    """Read the signature of an answer and compare its digest. Raises `SignatureRefused`."""
    values = _single_values(headers)
    match = _input(values)
    if match["list"] != _ANSWER_LIST:
        raise SignatureRefused("covers other components than the profile asks for")
    text = _match(_SIGNATURE, values, "signature")[1]
    _check_digest(_decode(_match(_DIGEST, values, "content-digest")[1]), body)
    parameters = match.string[len(LABEL) + 1 :]
    return AnswerSignature(
        key_id=match["keyid"],
        created=int(match["created"]),
        expires=int(match["expires"]),
        text=text,
        base=_answer_base(status, values["content-digest"], method, target_uri, request_signature, parameters),
    )


def _parameters(key: SigningKey, created: int, lifetime: int) -> str:
    return f';created={created};expires={created + lifetime};keyid="{key.id}";alg="ed25519";tag="{TAG}"'


def _request_base(components: tuple[str, ...], values: dict[str, str], parameters: str) -> bytes:
    lines = [f'"{name}": {values[name]}' for name in components]
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines).encode("ascii")


def _answer_base(status: int, digest: str, method: str, target: str, request_signature: str, parameters: str) -> bytes:
    return (
        f'"@status": {status}\n"content-digest": {digest}\n"@method";req: {method}\n"@target-uri";req: {target}\n'
        f'"signature";key="{LABEL}";req: {request_signature}\n"@signature-params": {parameters}'
    ).encode("ascii")


def _signed(headers: dict[str, str], key: SigningKey, parameters: str, base: bytes) -> Signed:
    signature = ":" + base64.b64encode(key.private.sign(base)).decode("ascii") + ":"
    headers["Signature-Input"] = f"{LABEL}={parameters}"
    headers["Signature"] = f"{LABEL}={signature}"
    return Signed(headers, signature)


def _single_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in _OURS:
            continue
        if name in values:
            raise SignatureRefused(f"more than one {name}")
        value = raw_value.decode("latin-1")
        if _FIELD_VALUE.fullmatch(value) is None:
            raise SignatureRefused(f"{name} is folded, padded or not ASCII")
        values[name] = value
    return values


def _input(values: dict[str, str]) -> re.Match[str]:
    match = _match(_INPUT, values, "signature-input")
    # Five parameters of five kinds: none is missing exactly if none is there twice.
    if None in match.groups():
        raise SignatureRefused("a parameter is missing or there twice")
    return match


def _match(pattern: re.Pattern[str], values: dict[str, str], name: str) -> re.Match[str]:
    value = values.get(name)
    if value is None:
        raise SignatureRefused(f"no {name}")
    match = pattern.fullmatch(value)
    if match is None:
        raise SignatureRefused(f"{name} is not in the form of the profile")
    return match


def _decode(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise SignatureRefused("broken base64") from error
    if base64.b64encode(decoded) != text.encode("ascii"):
        raise SignatureRefused("base64 with stray bits")
    return decoded


def _check_time(created: int, expires: int, now: float) -> None:
    if not created < expires <= created + MAX_LIFETIME:
        raise SignatureRefused("valid for no time or for too long")
    if created > now + SKEW:
        raise SignatureRefused("created in the future")
    if expires < now - SKEW:
        raise SignatureRefused("expired")


def _check_digest(digest: bytes | None, body: bytes) -> None:
    if digest is None:
        if body:
            raise SignatureRefused("a body that is not covered")
    elif not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise SignatureRefused("digest does not match the body")


def _verify(key: Ed25519PublicKey, text: str, base: bytes) -> None:
    try:
        key.verify(_decode(text[1:-1]), base)
    except InvalidSignature as error:
        raise SignatureRefused("wrong signature") from error
