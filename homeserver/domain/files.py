"""Uploaded files: what is known of one, and the rules for names and content types, which strangers choose."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

DEFAULT_TYPE: Final = "application/octet-stream"
DEFAULT_NAME: Final = "file"
MAX_NAME_BYTES: Final = 200
"""Of a cleaned name, in UTF-8: below what file systems and browsers take."""
MAX_EXTENSION: Final = 20
_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_PARAMETERS: Final = re.compile(r"[\t\x20-\x7e]{0,255}")
_NOT_IN_NAMES: Final = frozenset('/\\:*?"<>|')
_RUN_BY_BROWSERS: Final = re.compile(r"html|xml|svg|script|css|wasm|shockwave|java\b|multipart|message/|cache-manifest")
_SHOWN: Final = frozenset(
    (
        "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
        "audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/opus", "audio/wav", "audio/webm", "audio/flac",
        "video/mp4", "video/webm", "video/ogg", "video/quicktime", "video/mpeg", "video/3gpp",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """One stored file: ``id`` is the part of its address nobody can guess, ``account`` the uploader's number.

    ``type`` is the content type without parameters; ``digest`` SHA-256 of the content; ``created`` and ``expires``
    seconds since the epoch, ``expires`` None for one that is kept.
    """

    id: str
    account: int
    name: str
    type: str
    size: int
    digest: bytes
    created: float
    expires: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account has stored: bytes and files, and the bytes that came since some moment.

    ``oldest`` is when the first of those came, ``frees`` when the next stored file expires; None where there is none.
    """

    bytes: int
    files: int
    recent: int
    oldest: float | None
    frees: float | None


def clean_name(text: str) -> str:
    """A name that is safe in a URL, in a header and on a disk; the last part of a path, its extension kept.

    Never empty, at most `MAX_NAME_BYTES` in UTF-8; no separators, controls, marks of direction or leading dots.
    """
    last = re.split(r"[/\\]", text)[-1]
    kept = (char for char in unicodedata.normalize("NFC", last) if char not in _NOT_IN_NAMES and _is_visible(char))
    name = " ".join("".join(kept).split()).strip(". ")
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name or DEFAULT_NAME
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > MAX_EXTENSION:
        stem, dot, extension = name, "", ""
    room = MAX_NAME_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + dot + extension


def content_type(text: str) -> str | None:
    """The type and subtype of a Content-Type (RFC 9110 s8.3.1) in lower case, or None for what is none."""
    essence, _, parameters = text.partition(";")
    essence = essence.strip(" \t")
    if _TYPE.fullmatch(essence) is None or _PARAMETERS.fullmatch(parameters) is None:
        return None
    return essence.lower()


def served_type(kind: str) -> str:
    """As what a file is handed out: what a browser would run or render with scripts becomes bytes."""
    return DEFAULT_TYPE if _RUN_BY_BROWSERS.search(kind) else kind


def is_shown(kind: str) -> bool:
    """Whether a browser may show a file of that type in place; others are saved."""
    return kind in _SHOWN


def _is_visible(char: str) -> bool:
    """Spaces count; controls, marks of direction, lone surrogates and private or unassigned code points do not."""
    return unicodedata.category(char)[0] not in "C" and unicodedata.category(char) not in ("Zl", "Zp")
