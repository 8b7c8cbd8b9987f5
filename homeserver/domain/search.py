"""Words of a text, and what a search asks for.

Text and query become words by the same rule, so the store compares words only: lower case, without accents; characters
of scripts that are written without spaces count as a word each. A query is words and "phrases", all of which must be in
the text; a word that ends with ``*`` matches its beginning. There are no patterns.
"""

import re
from dataclasses import dataclass
from typing import Final
from unicodedata import category, combining, normalize

from homeserver.domain.errors import BadRequest

MAX_QUERY: Final = 256
MAX_PHRASES: Final = 10
MAX_TEXT: Final = 20_000
"""Characters of a message that can be found."""
MAX_WORD: Final = 64

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_ACCENTS: Final = range(200, 256)
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that follow each other; with ``prefix`` the last one is the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Phrases that a text must hold, all of them, at least one."""

    phrases: tuple[Phrase, ...]


def words_of(text: str) -> list[str]:
    """The words of a text, in order, with repetitions."""
    text = text[:MAX_TEXT]
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        plain = "".join(char for char in normalize("NFKD", text.casefold()) if combining(char) not in _ACCENTS)
        found = "".join(map(_spaced, normalize("NFC", plain))).split()
    return [word[:MAX_WORD] for word in found]


def parse(text: str) -> Query:
    """The query that a person wrote. Raises `BadRequest` where it holds no word or too much."""
    if len(text) > MAX_QUERY:
        raise BadRequest(f"A search has at most {MAX_QUERY} characters")
    phrases: list[Phrase] = []
    for place, part in enumerate(text.split('"')):
        # Odd parts are between quotes; a quote that is never closed reaches to the end.
        for piece in [part] if place % 2 else part.split():
            words = tuple(words_of(piece))
            if words:
                phrases.append(Phrase(words, piece.endswith("*")))
    if not phrases:
        raise BadRequest("A search needs a word")
    if len(phrases) > MAX_PHRASES:
        raise BadRequest(f"A search has at most {MAX_PHRASES} words and phrases")
    return Query(tuple(phrases))


def _spaced(char: str) -> str:
    if any(low <= ord(char) <= high for low, high in _UNSPACED) and category(char)[0] != "M":
        return f" {char} " if char.isalnum() else " "
    return char if char.isalnum() or category(char)[0] == "M" else " "
