"""Value types of settings: sizes, durations, rates, domains, and how they are written in the configuration file.

Each `parse_*` function takes what TOML gave and raises `ValueError` with the expected form as its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

import idna

_SIZES: Final = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_SPANS: Final = {
    "ms": 0.001,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
    "week": 604800.0,
}
_SHORT_SPANS: Final = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_RATE: Final = re.compile(r"\s*(\d+)\s+per\s+(?:(\d+(?:\.\d+)?)\s*)?([A-Za-z]+)\s*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_CONTACT: Final = re.compile(r"(mailto|xmpp):[^\s@]+@[^\s@]+|(https?://|xmpp:)[^\s]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks an alias of a plain type whose text form has a unit; `name` tells the loader which parser to use."""

    name: str


@dataclass(frozen=True, slots=True)
class Rate:
    """So many events in a span of seconds: a bucket that holds `events` and refills evenly in `seconds`."""

    events: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Refill in events per second."""
        return self.events / self.seconds


Bytes = Annotated[int, Unit("size")]
"""A size; an int of bytes after loading, `"10 MiB"` in the file."""
Duration = Annotated[float, Unit("duration")]
"""A span of time; float seconds after loading, `"30 days"` in the file."""
Domain = Annotated[str, Unit("domain")]
"""A domain name in lower case, U-labels where it is internationalised."""
Label = Annotated[str, Unit("label")]
"""One label of a domain name."""
ContactUri = Annotated[str, Unit("contact")]
"""A `mailto:`, `xmpp:`, `http:` or `https:` address."""


def parse_size(value: Any) -> int:
    """Bytes from `"10 MiB"` or a whole number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match and match[2] in _SIZES:
        return round(float(match[1]) * _SIZES[match[2]])
    raise ValueError('a size such as "256 KiB" or "10 MiB" (B, kB, MB, GB, KiB, MiB, GiB)')


def parse_duration(value: Any) -> float:
    """Seconds from `"30 days"` or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match and (unit := _span(match[2])) is not None:
        return float(match[1]) * unit
    raise ValueError('a duration such as "90 seconds" or "30 days" (ms, seconds, minutes, hours, days, weeks)')


def parse_rate(value: Any) -> Rate:
    """`Rate` from `"20 per minute"` or `"100 per 10 seconds"`."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match and int(match[1]) > 0 and (unit := _span(match[3])) is not None:
        seconds = float(match[2] or 1) * unit
        if seconds > 0:
            return Rate(int(match[1]), seconds)
    raise ValueError('a rate such as "20 per minute" or "100 per 10 seconds"')


def parse_domain(value: Any) -> str:
    """A domain name in its U-label form, as RFC 7622 s3.2 wants it in an address."""
    expected = 'a domain name such as "example.org"'
    if not isinstance(value, str) or not value:
        raise ValueError(expected)
    try:
        return idna.decode(idna.encode(value.rstrip("."), uts46=True))
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(expected) from error


def parse_contact(value: Any) -> str:
    """An address where people are reached: a mailto:, xmpp: or web address."""
    if isinstance(value, str) and _CONTACT.fullmatch(value):
        return value
    raise ValueError(
        'an address such as "mailto:admin@example.org", "xmpp:admin@example.org" or "https://example.org/"'
    )


def parse_label(value: Any) -> str:
    """One ASCII label of a domain name, in lower case."""
    if isinstance(value, str) and _LABEL.fullmatch(value.lower()):
        return value.lower()
    raise ValueError('one label of a domain name such as "groups"')


def format_size(size: int) -> str:
    """The shortest exact spelling of a size; `parse_size` reads it back."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]} {unit}"
    return f"{size} B"


def format_duration(seconds: float) -> str:
    """The shortest exact spelling of a duration; `parse_duration` reads it back."""
    for unit in ("day", "hour", "minute"):
        if seconds and seconds % _SPANS[unit] == 0:
            return _counted(seconds / _SPANS[unit], unit)
    return _counted(seconds, "second")


def format_rate(rate: Rate) -> str:
    """The spelling of a rate; `parse_rate` reads it back."""
    span = format_duration(rate.seconds)
    return f"{rate.events} per {span.removeprefix('1 ')}"


def _counted(number: float, unit: str) -> str:
    digits = f"{int(number)}" if number == int(number) else f"{number:f}".rstrip("0")
    return f"{digits} {unit}" if number == 1 else f"{digits} {unit}s"


def _span(word: str) -> float | None:
    word = _SHORT_SPANS.get(word, word)
    return _SPANS.get(word if word == "ms" else word.removesuffix("s"))
