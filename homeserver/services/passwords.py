"""Passwords: checked, turned into verifiers of every family, compared.

Deriving takes milliseconds of processor time; callers run it in a thread.
"""

import secrets
from typing import Final

from homeserver.domain.accounts import Verifier
from homeserver.domain.errors import NotAcceptable
from homeserver.protocol import saslprep, scram

HASHES: Final = {"SCRAM-SHA-1": "SHA-1", "SCRAM-SHA-256": "SHA-256", "SCRAM-SHA-512": "SHA-512"}
"""The families kept for every account: clients differ in what they speak (RFC 5802, RFC 7677)."""
PASSWORD_MECHANISM: Final = "SCRAM-SHA-256"  # noqa: S105 the name of a mechanism
SALT_BYTES: Final = 16


def prepare(password: str, longest: int) -> str:
    """The password as SCRAM clients derive from it. Raises `NotAcceptable`.

    ``longest`` is in characters and is held before anything else looks at the password.
    """
    if len(password) > longest:
        raise NotAcceptable(f"the password is longer than {longest} characters")
    try:
        return saslprep.prepare_password(password)
    except ValueError as error:
        raise NotAcceptable("the password is empty or holds a character that is not allowed") from error


def derive(prepared: str, mechanism: str, salt: bytes, iterations: int) -> Verifier:
    """The verifier of a prepared password (RFC 5802 s3)."""
    return _stored(mechanism, scram.derive(prepared, salt, iterations, HASHES[mechanism]))


def derive_families(prepared: str, iterations: int) -> list[Verifier]:
    """A verifier of each family, each with its own salt."""
    return [derive(prepared, mechanism, secrets.token_bytes(SALT_BYTES), iterations) for mechanism in HASHES]


def matches(stored: Verifier, prepared: str) -> bool:
    """Whether the verifier was made from this password."""
    wanted = scram.Verifier(stored.salt, stored.iterations, stored.stored_key, stored.server_key)
    return scram.password_matches(prepared, wanted, HASHES[stored.mechanism])


def decoy(key: bytes, bare: str, mechanism: str, iterations: int) -> Verifier:
    """A verifier that no password fits, the same every time for a name: an answer where there is no account."""
    return _stored(mechanism, scram.decoy_verifier(key, bare, iterations, HASHES.get(mechanism, "SHA-256")))


def _stored(mechanism: str, made: scram.Verifier) -> Verifier:
    return Verifier(mechanism, made.salt, made.iterations, made.stored_key, made.server_key)
