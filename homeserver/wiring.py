"""Builds classes from the types of their fields.

Used for features and endpoints, of which there are many with few needs each. Everything else is built by hand in
``homeserver/app/server.py``. There is no lookup after the start: a missing or doubled type stops it.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


class WiringFault(Exception):
    """A class asks for something that is not there, or is there twice."""


def build(classes: Iterable[type], parts: Iterable[object]) -> list[Any]:
    """Make one instance of every class, giving each annotated field the one part of that type.

    Raises `WiringFault` with the name of class and field.
    """
    available = list(parts)
    return [_make(cls, available) for cls in classes]


def _make(cls: type, parts: list[object]) -> Any:
    if not is_dataclass(cls):
        raise WiringFault(f"{cls.__name__} is not declared")
    hints = get_type_hints(cls)
    chosen: dict[str, object] = {}
    for field in fields(cls):
        if not field.init:
            continue
        wanted = hints[field.name]
        found = [part for part in parts if isinstance(part, wanted)]
        if len(found) != 1:
            raise WiringFault(
                f"{cls.__name__}.{field.name}: {len(found)} parts of type {wanted.__name__}, one is needed"
            )
        chosen[field.name] = found[0]
    return cls(**chosen)
