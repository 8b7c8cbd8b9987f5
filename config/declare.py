"""How a setting is declared: a default and a sentence, which goes into the documentation (see `describe.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import Any, Final

REQUIRED: Final = MISSING
"""As a default: the key must be in the file."""


@dataclass(frozen=True, slots=True)
class About:
    """What is declared about a setting besides its type and default."""

    sentence: str
    reloadable: bool = False
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    in_data_dir: bool = False


def setting(
    default: Any,
    sentence: str,
    *,
    reloadable: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
    secret: bool = False,
    in_data_dir: bool = False,
) -> Any:
    """Declares a field of a section.

    `reloadable`: SIGHUP applies a change without a restart. `secret`: `<key>_file` may name a file that holds the value.
    `in_data_dir`: a relative path starts at `data_dir`, otherwise at the folder of the configuration file.
    """
    if not sentence.endswith("."):
        raise TypeError(f"the sentence of a setting ends with a full stop: {sentence!r}")
    about = About(sentence, reloadable, at_least, at_most, secret, in_data_dir)
    return field(default=default, metadata={"about": about}, kw_only=True)


def section(kind: Callable[[], Any]) -> Any:
    """Declares a section of the file: a table with the keys of `kind`."""
    return field(default_factory=kind, kw_only=True)


def tables(sentence: str, default: tuple[Any, ...] = ()) -> Any:
    """Declares an array of tables, `[[name]]` in the file."""
    return field(default=default, metadata={"about": About(sentence)}, kw_only=True)
