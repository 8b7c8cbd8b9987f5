"""SASL mechanisms behind one interface (RFC 4422, RFC 4616, RFC 5802, and HT-* for XEP-0484).

An `Exchange` takes the client's messages and answers with a step: send a challenge, somebody must fetch a verifier or
check a password, or the exchange is won. Nothing here touches storage. Failures are `SaslFault` with a condition of
RFC 6120 s6.5. The authorisation identity must be the account that authenticates, or be absent.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from homeserver.protocol.jid import JID, InvalidJID, prepare_local
from homeserver.protocol.scram import HASHES, SaslFault, ScramServer, ScramSetting, Verifier, downgrade_hash

__all__ = [
    "MECHANISMS",
    "TOKEN_MECHANISMS",
    "Answer",
    "Challenge",
    "Exchange",
    "Offer",
    "PasswordOffered",
    "Proven",
    "SaslFault",
    "Step",
    "TokensWanted",
    "VerifierWanted",
    "start_exchange",
]

MECHANISMS: Final = (
    "SCRAM-SHA-512-PLUS",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "PLAIN",
)
"""All that can be spoken, the strongest first."""
TOKEN_MECHANISMS: Final[dict[str, str]] = {
    "HT-SHA-256-EXPR": "tls-exporter",
    "HT-SHA-256-ENDP": "tls-server-end-point",
    "HT-SHA-256-NONE": "",
}
"""Mechanisms for tokens (XEP-0484 s3.1) and the channel binding of each, "" for none; the strongest first."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send ``data`` and wait for the client's response."""

    data: bytes


@dataclass(frozen=True, slots=True)
class VerifierWanted:
    """Answer with the `Verifier` of ``username`` (prepared localpart) for ``hash_name``."""

    username: str
    hash_name: str


@dataclass(frozen=True, slots=True)
class PasswordOffered:
    """Answer: is this the password of ``username`` (prepared localpart)?"""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokensWanted:
    """Answer with the tokens of ``username`` (prepared localpart) that are good for the mechanism; maybe none."""

    username: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The client is ``username``; ``data`` goes along with success (None: nothing); ``token`` is the one it used."""

    username: str
    data: bytes | None
    is_bound: bool = False
    token: bytes | None = field(default=None, repr=False)


Answer = Verifier | bool | Sequence[bytes]
"""What answers `VerifierWanted`, `PasswordOffered`, `TokensWanted`."""
Step = Challenge | VerifierWanted | PasswordOffered | TokensWanted | Proven


@dataclass(frozen=True, slots=True)
class Offer:
    """What was offered on this stream: the host, mechanism names, channel binding types with their data.

    ``tokens`` are the mechanisms that take a token instead of a password. ``downgrade_protection`` adds the hash of XEP-0474 to SCRAM challenges.
    """

    domain: str
    mechanisms: tuple[str, ...]
    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    downgrade_protection: bool = True
    tokens: tuple[str, ...] = ()


class Exchange(Protocol):
    """One attempt. Every method returns the next step or raises `SaslFault`, which ends the attempt."""

    def respond(self, data: bytes | None) -> Step:
        """The client's message; None only as the first, where it sent no initial response."""

    def answer(self, found: Answer) -> Step:
        """What was asked for: a `Verifier`, whether a password is right, or tokens."""


def start_exchange(mechanism: str, offer: Offer, nonce: str) -> Exchange:
    """Begin ``mechanism``; ``nonce`` is fresh random text without commas. Raises ``invalid-mechanism``."""
    if mechanism in offer.tokens:
        return HashedToken(offer.domain, offer.bindings.get(TOKEN_MECHANISMS[mechanism], b""), mechanism)
    if mechanism not in offer.mechanisms:
        raise SaslFault("invalid-mechanism")
    if mechanism == "PLAIN":
        return Plain(offer.domain)
    plus = mechanism.endswith("-PLUS")
    hash_name = mechanism.removeprefix("SCRAM-").removesuffix("-PLUS")
    if hash_name not in HASHES:
        raise SaslFault("invalid-mechanism")
    advertised = ""
    if offer.downgrade_protection:
        advertised = downgrade_hash(offer.mechanisms, tuple(offer.bindings), hash_name)
    plus_offered = any(name.endswith("-PLUS") for name in offer.mechanisms)
    return Scram(offer.domain, ScramSetting(hash_name, nonce, plus, plus_offered, offer.bindings, advertised))


class Plain:
    """RFC 4616: authorisation identity, NUL, user name, NUL, password."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._username = ""

    def respond(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        if self._username:
            raise SaslFault("malformed-request", "message after the last")
        try:
            parts = data.decode().split("\0")
        except UnicodeDecodeError as error:
            raise SaslFault("malformed-request", "message is not UTF-8") from error
        if len(parts) != 3 or not parts[1] or not parts[2]:
            raise SaslFault("malformed-request", "not of the form of RFC 4616")
        self._username = _prepared(parts[1])
        _check_authzid(parts[0], self._username, self._domain)
        return PasswordOffered(self._username, parts[2])

    def answer(self, found: Answer) -> Step:
        if found is not True:
            raise SaslFault("not-authorized")
        return Proven(self._username, None)


class Scram:
    """`ScramServer` with user names prepared as localparts."""

    def __init__(self, domain: str, setting: ScramSetting) -> None:
        self._domain = domain
        self._hash_name = setting.hash_name
        self._server = ScramServer(setting)
        self._username = ""
        self._challenged = False

    def respond(self, data: bytes | None) -> Step:
        if data is None:
            return Challenge(b"")
        if self._challenged:
            return Proven(self._username, self._server.final(data), self._server.is_bound)
        if self._username:
            raise SaslFault("malformed-request", "message out of turn")
        self._username = _prepared(self._server.first(data))
        _check_authzid(self._server.authzid, self._username, self._domain)
        return VerifierWanted(self._username, self._hash_name)

    def answer(self, found: Answer) -> Step:
        if not isinstance(found, Verifier):
            raise SaslFault("not-authorized")
        self._challenged = True
        return Challenge(self._server.challenge(found))


class HashedToken:
    """HT-SHA-256-*: name, NUL, HMAC of "Initiator" and the channel binding with the token as key; one round trip.

    Whatever is wrong with the token is ``credentials-expired`` (XEP-0484 s4.2): the client falls back to its password,
    and nobody learns whether a name has tokens.
    """

    def __init__(self, domain: str, binding: bytes, mechanism: str) -> None:
        self._domain = domain
        self._binding = binding
        self._is_bound = bool(TOKEN_MECHANISMS[mechanism])
        self._username = ""
        self._proof = b""

    def respond(self, data: bytes | None) -> Step:
        if data is None or self._username:
            raise SaslFault("malformed-request", "a token is proven in the first message")
        name, found, self._proof = data.partition(b"\0")
        try:
            text = name.decode()
        except UnicodeDecodeError as error:
            raise SaslFault("malformed-request", "message is not UTF-8") from error
        if not found or not text or not self._proof:
            raise SaslFault("malformed-request", "name or proof is missing")
        self._username = _prepared(text)
        return TokensWanted(self._username)

    def answer(self, found: Answer) -> Step:
        used: bytes | None = None
        for token in found if isinstance(found, Sequence) else ():
            if hmac.compare_digest(hmac.digest(token, b"Initiator" + self._binding, "sha256"), self._proof):
                used = token
        if used is None:
            raise SaslFault("credentials-expired")
        said = hmac.digest(used, b"Responder" + self._binding, "sha256")
        return Proven(self._username, said, self._is_bound, used)


def _prepared(name: str) -> str:
    try:
        return prepare_local(name)
    except InvalidJID as error:
        raise SaslFault("not-authorized", "no such name") from error


def _check_authzid(authzid: str, username: str, domain: str) -> None:
    if not authzid:
        return
    try:
        if str(JID.parse(authzid)) == f"{username}@{domain}":
            return
    except InvalidJID as error:
        raise SaslFault("invalid-authzid") from error
    raise SaslFault("invalid-authzid")
