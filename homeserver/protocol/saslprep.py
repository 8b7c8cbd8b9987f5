"""Preparation of passwords before they are hashed (RFC 4013 SASLprep, RFC 8265 OpaqueString)."""

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

from precis_i18n import get_profile

_OPAQUE = get_profile("OpaqueString")
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare_password(password: str) -> str:
    """Return the form of ``password`` that SCRAM hashes (RFC 5802 s2.2).

    Clients use SASLprep; what it knows no answer for (characters younger than Unicode 3.2, such as emoji) goes
    through the OpaqueString profile, as clients that know better do. Raises `ValueError` for an empty result or a
    prohibited character.
    """
    if password.isascii():
        if not password or not password.isprintable():
            raise ValueError("password is empty or holds a control character")
        return password
    if any(stringprep.in_table_a1(char) for char in password):
        prepared: str = _OPAQUE.enforce(password)
        return prepared
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    mapped = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not mapped:
        raise ValueError("password is empty")
    if any(table(char) for char in mapped for table in _PROHIBITED):
        raise ValueError("password holds a prohibited character")
    if any(map(stringprep.in_table_d1, mapped)) and (
        any(map(stringprep.in_table_d2, mapped))
        or not (stringprep.in_table_d1(mapped[0]) and stringprep.in_table_d1(mapped[-1]))
    ):
        raise ValueError("password mixes directions")
    return mapped
