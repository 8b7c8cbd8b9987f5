"""Key documents: which keys a domain signs with, as a JWS (RFC 7515 s7.2.1) over a small JSON object.

The payload is ``{"domain", "number", "subdomains", "keys"}``; keys are JWKs (RFC 7517, RFC 8037) with ``not_before``
and ``not_after`` in seconds since the epoch. Every key that has not ended signs the document. ``number`` grows with
each change, so an old document is never taken for a new one. Ended keys stay listed, so that what they signed while
they were in use can still be checked.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from homeserver.protocol.envelope import MAX_NUMBER
from homeserver.protocol.signing import SigningKey

TYPE: Final = "parley-keys"
MAX_KEYS: Final = 64
MAX_SUBDOMAINS: Final = 256

KeyId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Moment = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]


class KeyDocumentRefused(ValueError):
    """The document is not one that this domain can have made."""


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key (32 bytes) and when it is used; ``not_after`` None while no end is set."""

    id: str
    public: bytes
    not_before: int
    not_after: int | None = None

    def ended(self, now: float) -> bool:
        return self.not_after is not None and self.not_after <= now


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """What a domain says of its keys; ``signers`` are the ids of the listed keys whose signature is right."""

    domain: str
    number: int
    subdomains: tuple[str, ...]
    keys: tuple[PublishedKey, ...]
    signers: frozenset[str] = frozenset()


class _Jwk(msgspec.Struct, omit_defaults=True):
    kid: KeyId
    x: str
    not_before: Moment
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    not_after: Moment | None = None


class _Payload(msgspec.Struct):
    domain: str
    number: Moment
    subdomains: Annotated[list[str], msgspec.Meta(max_length=MAX_SUBDOMAINS)]
    keys: Annotated[list[_Jwk], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: Literal["EdDSA"]
    kid: KeyId
    typ: Literal["parley-keys"]


class _Signature(msgspec.Struct):
    protected: str
    signature: str


class _Jws(msgspec.Struct):
    payload: str
    signatures: Annotated[list[_Signature], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]


def make_document(document: KeyDocument, signers: Iterable[SigningKey]) -> bytes:
    """Write and sign a document."""
    keys = [
        _Jwk(kid=key.id, x=_encode(key.public), not_before=key.not_before, kty="OKP", crv="Ed25519",
             not_after=key.not_after)
        for key in document.keys
    ]  # fmt: skip
    payload = _encode(msgspec.json.encode(_Payload(document.domain, document.number, list(document.subdomains), keys)))
    signatures = []
    for signer in signers:
        protected = _encode(msgspec.json.encode(_Header("EdDSA", signer.id, TYPE)))
        signature = signer.private.sign(f"{protected}.{payload}".encode("ascii"))
        signatures.append(_Signature(protected, _encode(signature)))
    return msgspec.json.encode(_Jws(payload, signatures))


def read_document(body: bytes, now: float, known: Iterable[PublishedKey] = ()) -> KeyDocument:
    """Read a document and check its signatures against the keys it lists and those ``known`` from before.

    ``signers`` of the result holds ids of listed and of known keys. Raises `KeyDocumentRefused` if a listed key that
    has not ended did not sign, a key id occurs twice, or a subdomain is not below the domain.
    """
    try:
        jws = msgspec.json.decode(body, type=_Jws)
        payload = msgspec.json.decode(_decode(jws.payload), type=_Payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise KeyDocumentRefused(f"not a key document: {error}") from error
    keys = tuple(PublishedKey(key.kid, _public(key.x), key.not_before, key.not_after) for key in payload.keys)
    by_id = {key.id: key for key in keys}
    if len(by_id) != len(keys):
        raise KeyDocumentRefused("a key id is there twice")
    if any(not name.endswith("." + payload.domain) for name in payload.subdomains):
        raise KeyDocumentRefused("a listed name is not below the domain")
    candidates = {key.id: key for key in known} | by_id
    signers = frozenset(
        name for entry in jws.signatures if (name := _signer(entry, jws.payload, candidates)) is not None
    )
    missing = [key.id for key in keys if not key.ended(now) and key.id not in signers]
    if missing:
        raise KeyDocumentRefused(f"not signed by its own key {missing[0]}")
    return KeyDocument(payload.domain, payload.number, tuple(payload.subdomains), keys, signers)


def _signer(entry: _Signature, payload: str, keys: dict[str, PublishedKey]) -> str | None:
    try:
        header = msgspec.json.decode(_decode(entry.protected), type=_Header)
        key = keys.get(header.kid)
        if key is None:
            return None
        public = Ed25519PublicKey.from_public_bytes(key.public)
        public.verify(_decode(entry.signature), f"{entry.protected}.{payload}".encode("ascii"))
    except (msgspec.MsgspecError, InvalidSignature, UnicodeError) as error:
        raise KeyDocumentRefused("a signature is broken") from error
    return key.id


def _public(text: str) -> bytes:
    public = _decode(text)
    if len(public) != 32:
        raise KeyDocumentRefused("a key is not 32 bytes long")
    return public


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise KeyDocumentRefused("broken base64url") from error
    if _encode(data) != text:
        raise KeyDocumentRefused("base64url with stray bits")
    return data
