"""Passwords: prepared, turned into SCRAM verifiers, compared.

The work here takes milliseconds of processor time; callers run it in a thread.
"""

import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from typing import Final

from homeserver.domain.accounts import Verifier
from homeserver.domain.errors import NotAcceptable

HASHES: Final = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
"""The families kept for every account: clients differ in what they speak (RFC 5802, RFC 7677)."""
PASSWORD_MECHANISM: Final = "SCRAM-SHA-256"  # noqa: S105 the name of a mechanism
SALT_BYTES: Final = 16


def prepare(password: str, longest: int) -> str:
    """The password as SASLprep makes it (RFC 4013), which is what SCRAM clients derive from.

    Raises `NotAcceptable` for one that is empty, longer than ``longest`` characters or holds a forbidden character.
    """
    if len(password) > longest:
        raise NotAcceptable(f"the password is longer than {longest} characters")
    if not password:
        raise NotAcceptable("the password is empty")
    if password.isascii() and password.isprintable():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(mark) else mark for mark in password if not stringprep.in_table_b1(mark)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(_forbidden(mark) for mark in prepared):
        raise NotAcceptable("the password holds a character that is not allowed")
    if any(map(stringprep.in_table_d1, prepared)):
        mixed = any(map(stringprep.in_table_d2, prepared))
        if mixed or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            raise NotAcceptable("the password mixes writing directions")
    return prepared


def derive(prepared: str, mechanism: str, salt: bytes, iterations: int) -> Verifier:
    """The verifier of a prepared password (RFC 5802 s3)."""
    hash_name = HASHES[mechanism]
    salted = hashlib.pbkdf2_hmac(hash_name, prepared.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return Verifier(mechanism, salt, iterations, stored_key, hmac.digest(salted, b"Server Key", hash_name))


def derive_families(prepared: str, iterations: int) -> list[Verifier]:
    """A verifier of each family, each with its own salt."""
    return [derive(prepared, mechanism, secrets.token_bytes(SALT_BYTES), iterations) for mechanism in HASHES]


def matches(stored: Verifier, prepared: str) -> bool:
    """Whether the verifier was made from this password."""
    made = derive(prepared, stored.mechanism, stored.salt, stored.iterations)
    return hmac.compare_digest(made.stored_key, stored.stored_key)


def decoy(key: bytes, bare: str, mechanism: str, iterations: int) -> Verifier:
    """A verifier that no password fits, the same every time for a name: an answer where there is no account."""

    def part(purpose: str) -> bytes:
        return hmac.digest(key, f"{purpose} {mechanism} {bare}".encode(), "sha256")

    size = hashlib.new(HASHES.get(mechanism, "sha256")).digest_size
    return Verifier(mechanism, part("salt")[:SALT_BYTES], iterations, part("stored")[:size], part("server")[:size])


def _forbidden(mark: str) -> bool:
    return (
        stringprep.in_table_c12(mark)
        or stringprep.in_table_c21_c22(mark)
        or stringprep.in_table_c3(mark)
        or stringprep.in_table_c4(mark)
        or stringprep.in_table_c5(mark)
        or stringprep.in_table_c6(mark)
        or stringprep.in_table_c7(mark)
        or stringprep.in_table_c8(mark)
        or stringprep.in_table_c9(mark)
        or stringprep.in_table_a1(mark)
    )
