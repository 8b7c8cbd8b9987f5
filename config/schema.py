"""Reads the declarations of `settings.py`: which keys a section has, and how a TOML value becomes the value of a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from config import units
from config.declare import About

_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "size": units.parse_size,
    "duration": units.parse_duration,
    "domain": units.parse_domain,
    "label": units.parse_label,
    "contact": units.parse_contact,
}
_FORMATTERS: Final[dict[str, Callable[[Any], str]]] = {"size": units.format_size, "duration": units.format_duration}
_PLAIN: Final[dict[type, str]] = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path in quotes",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section. `section` is the dataclass behind a table, `many` says that it is an array of tables."""

    name: str
    hint: Any
    about: About
    default: Any
    section: type | None = None
    many: bool = False

    @property
    def is_required(self) -> bool:
        """Whether the key must be in the file."""
        return self.section is None and self.default is MISSING

    def convert(self, value: Any) -> Any:
        """The value after loading; raises `ValueError` with what is expected as its text."""
        converted = _convert(self.hint, value)
        low, high = self.about.at_least, self.about.at_most
        if converted is not None and ((low is not None and converted < low) or (high is not None and converted > high)):
            raise ValueError(self.expected())
        return converted

    def expected(self) -> str:
        """What may stand here, range included."""
        text = describe_type(self.hint)
        low = None if self.about.at_least is None else write_value(self.hint, self.about.at_least)
        high = None if self.about.at_most is None else write_value(self.hint, self.about.at_most)
        if low is not None and high is not None:
            return f"{text} from {low} to {high}"
        if low is not None:
            return f"{text}, at least {low}"
        return text if high is None else f"{text}, at most {high}"


@lru_cache(maxsize=64)
def keys_of(kind: type) -> dict[str, Key]:
    """The keys of a section in the order of their declaration."""
    hints = get_type_hints(kind, include_extras=True)
    keys: dict[str, Key] = {}
    for declared in fields(kind):
        hint = hints[declared.name]
        about = declared.metadata.get("about") or About(_first_sentence(hint))
        inner = get_args(hint)[0] if get_origin(hint) is tuple else hint
        if isinstance(inner, type) and is_dataclass(inner) and inner is not units.Rate:
            keys[declared.name] = Key(declared.name, hint, about, declared.default, inner, inner is not hint)
        else:
            keys[declared.name] = Key(declared.name, hint, about, declared.default)
    return keys


def describe_type(hint: Any) -> str:
    """What a value of this type looks like in the file."""
    hint, unit = _strip(hint)
    if unit is not None or hint is units.Rate:
        try:
            (_PARSERS[unit] if unit else units.parse_rate)(None)
        except ValueError as error:
            return str(error)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list; each is {describe_type(get_args(hint)[0])}"
    return _PLAIN[hint]


def write_value(hint: Any, value: Any) -> str:
    """A value as it is written in the file."""
    hint, unit = _strip(hint)
    if unit in _FORMATTERS:
        return json.dumps(_FORMATTERS[unit](value) if value else "0 seconds" if unit == "duration" else "0 B")
    if isinstance(value, units.Rate):
        return json.dumps(units.format_rate(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(write_value(get_args(hint)[0], item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def show_found(value: Any) -> str:
    """A value of the file for an error message, cut to a readable length."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "an array of tables"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _convert(hint: Any, value: Any) -> Any:
    hint, unit = _strip(hint)
    if unit is not None:
        return _PARSERS[unit](value)
    if hint is units.Rate:
        return units.parse_rate(value)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
    elif get_origin(hint) is tuple:
        if isinstance(value, list):
            return tuple(_convert(get_args(hint)[0], item) for item in value)
    elif hint is Path and isinstance(value, str) and value:
        return Path(value)
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif hint is not Path and type(value) is hint:
        return value
    raise ValueError(describe_type(hint))


def _strip(hint: Any) -> tuple[Any, str | None]:
    """The type below `| None` and `Annotated`, and the name of its unit if it has one."""
    if get_origin(hint) in (UnionType, Union):
        (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        return base, next(mark.name for mark in marks if isinstance(mark, units.Unit))
    return hint, None


def _first_sentence(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."
