"""SCRAM: the server's half and the verifiers it needs (RFC 5802, RFC 7677), with channel binding (RFC 5929, RFC 9266).

A server keeps a `Verifier`, never a password: who steals it still has to guess. `ScramServer` is one exchange; it is
given the verifier between the client's first and last message. For a user that does not exist it is given
`decoy_verifier`, which is always the same for the same name, so that neither the challenge nor the time tells.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from homeserver.protocol.saslprep import prepare_password

HASHES: Final[dict[str, str]] = {"SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}
"""IANA hash names of the mechanisms, with the names hashlib knows them by."""
MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 1_000_000


class SaslFault(Exception):
    """The exchange fails; ``condition`` is one of RFC 6120 s6.5, ``text`` for the log and the client's developer."""

    def __init__(self, condition: str, text: str = "") -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server stores of a password for one hash (RFC 5802 s3)."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def derive(password: str, salt: bytes, iterations: int, hash_name: str) -> Verifier:
    """Make the verifier of ``password``; takes about a millisecond per 5000 iterations.

    ``hash_name`` is a key of `HASHES`. Raises `ValueError` for a password that SASLprep refuses and for iteration
    counts outside 4096..1 000 000.
    """
    if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be {MIN_ITERATIONS}..{MAX_ITERATIONS}")
    salted = hashlib.pbkdf2_hmac(HASHES[hash_name], prepare_password(password).encode(), salt, iterations)
    return verifier_of(salted, salt, iterations, hash_name)


def verifier_of(salted: bytes, salt: bytes, iterations: int, hash_name: str) -> Verifier:
    """The verifier of what RFC 5802 s3 calls SaltedPassword. Raises `ValueError` where it has not the hash's length."""
    digest = HASHES[hash_name]
    if len(salted) != hashlib.new(digest).digest_size:
        raise ValueError("not of the length of the hash")
    client_key = hmac.digest(salted, b"Client Key", digest)
    server_key = hmac.digest(salted, b"Server Key", digest)
    return Verifier(salt, iterations, hashlib.new(digest, client_key).digest(), server_key)


def password_matches(password: str, verifier: Verifier, hash_name: str) -> bool:
    """Whether ``password`` is the one ``verifier`` was made of; costs one derivation."""
    try:
        made = derive(password, verifier.salt, verifier.iterations, hash_name)
    except ValueError:
        return False
    return hmac.compare_digest(made.stored_key, verifier.stored_key)


def decoy_verifier(secret: bytes, username: str, iterations: int, hash_name: str) -> Verifier:
    """The verifier of a user that does not exist: stable, unguessable, never matched."""
    digest = HASHES[hash_name]
    name = hash_name.encode() + b"\0" + username.encode()
    return Verifier(
        hmac.digest(secret, b"salt\0" + name, "sha256")[:16],
        iterations,
        hmac.digest(secret, b"stored\0" + name, digest),
        hmac.digest(secret, b"server\0" + name, digest),
    )


def downgrade_hash(mechanisms: tuple[str, ...], bindings: tuple[str, ...], hash_name: str) -> str:
    """The hash of what was advertised, for the client to compare (XEP-0474 s6.1)."""
    text = "\x1e".join(sorted(mechanisms))
    if bindings:
        text += "\x1f" + "\x1e".join(sorted(bindings))
    return base64.b64encode(hashlib.new(HASHES[hash_name], text.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class ScramSetting:
    """What an exchange must know of the connection.

    ``bindings`` maps the channel binding types that were advertised to their data; ``plus`` tells whether the
    mechanism is a -PLUS one, ``plus_offered`` whether one was on offer; ``advertised`` is `downgrade_hash` or "".
    """

    hash_name: str
    nonce: str
    plus: bool = False
    plus_offered: bool = False
    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    advertised: str = ""


class ScramServer:
    """One exchange: `first`, then `challenge`, then `final`. All raise `SaslFault`."""

    __slots__ = ("_bare", "_binding", "_challenge", "_gs2", "_nonce", "_setting", "_verifier", "authzid", "username")

    def __init__(self, setting: ScramSetting) -> None:
        self._setting = setting
        self._gs2 = b""
        self._binding = b""
        self._bare = b""
        self._nonce = ""
        self._challenge = b""
        self._verifier: Verifier | None = None
        self.authzid = ""
        self.username = ""

    def first(self, data: bytes) -> str:
        """Read client-first-message; returns the user name as sent (RFC 5802 s7)."""
        parts = _text(data).split(",", 2)
        if len(parts) != 3:
            raise SaslFault("malformed-request", "no GS2 header")
        flag, authzid, bare = parts
        self._check_binding(flag)
        if authzid:
            if not authzid.startswith("a="):
                raise SaslFault("malformed-request", "bad authorisation identity")
            self.authzid = _unescape(authzid[2:])
        self._gs2 = f"{flag},{authzid},".encode()
        self._bare = bare.encode()
        attributes = bare.split(",")
        if len(attributes) < 2 or attributes[0][:2] != "n=" or attributes[1][:2] != "r=":
            raise SaslFault("malformed-request", "user name or nonce is missing")
        nonce = attributes[1][2:]
        if not nonce or not nonce.isascii() or not nonce.isprintable():
            raise SaslFault("malformed-request", "bad nonce")
        self._nonce = nonce + self._setting.nonce
        self.username = _unescape(attributes[0][2:])
        if not self.username:
            raise SaslFault("malformed-request", "user name is empty")
        return self.username

    def _check_binding(self, flag: str) -> None:
        """The flag must fit the mechanism and what was advertised (RFC 5802 s6)."""
        setting = self._setting
        if flag.startswith("p="):
            if not setting.plus:
                raise SaslFault("malformed-request", "channel binding without a -PLUS mechanism")
            data = setting.bindings.get(flag[2:])
            if data is None:
                raise SaslFault("not-authorized", "channel binding type was not offered")
            self._binding = data
        elif flag not in ("n", "y"):
            raise SaslFault("malformed-request", "bad channel binding flag")
        elif setting.plus:
            raise SaslFault("malformed-request", "-PLUS mechanism without channel binding")
        elif flag == "y" and setting.plus_offered:
            raise SaslFault("not-authorized", "somebody took the -PLUS mechanisms out of the offer")

    def challenge(self, verifier: Verifier) -> bytes:
        """server-first-message for the user's verifier."""
        self._verifier = verifier
        text = f"r={self._nonce},s={base64.b64encode(verifier.salt).decode()},i={verifier.iterations}"
        if self._setting.advertised:
            text += ",h=" + self._setting.advertised
        self._challenge = text.encode()
        return self._challenge

    def final(self, data: bytes) -> bytes:
        """Check client-final-message; returns server-final-message, or raises ``not-authorized``."""
        verifier = self._verifier
        assert verifier is not None
        without_proof, found, proof_text = _text(data).rpartition(",p=")
        attributes = without_proof.split(",")
        if not found or len(attributes) < 2 or attributes[0][:2] != "c=" or attributes[1][:2] != "r=":
            raise SaslFault("malformed-request", "binding, nonce or proof is missing")
        try:
            bound = base64.b64decode(attributes[0][2:], validate=True)
            proof = base64.b64decode(proof_text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise SaslFault("malformed-request", "bad base64 in the message") from error
        digest = HASHES[self._setting.hash_name]
        message = b",".join((self._bare, self._challenge, without_proof.encode()))
        signature = hmac.digest(verifier.stored_key, message, digest)
        matches = len(proof) == len(signature)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        matches &= hmac.compare_digest(hashlib.new(digest, client_key).digest(), verifier.stored_key)
        matches &= hmac.compare_digest(bound, self._gs2 + self._binding)
        matches &= hmac.compare_digest(attributes[1][2:].encode(), self._nonce.encode())
        if not matches:
            raise SaslFault("not-authorized")
        return b"v=" + base64.b64encode(hmac.digest(verifier.server_key, message, digest))

    @property
    def is_bound(self) -> bool:
        """Whether the channel is bound, once `final` has succeeded."""
        return self._setting.plus


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SaslFault("malformed-request", "message is not UTF-8") from error
    if "\0" in text:
        raise SaslFault("malformed-request", "message holds NUL")
    return text


def _unescape(name: str) -> str:
    """Undo ``=2C`` and ``=3D``; any other ``=`` is an error (RFC 5802 s5.1)."""
    rest = name.replace("=2C", "").replace("=3D", "")
    if "=" in rest:
        raise SaslFault("malformed-request", "bad escape in user name")
    return name.replace("=2C", ",").replace("=3D", "=")
