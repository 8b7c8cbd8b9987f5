"""Finds the line of every key in a TOML text; `tomllib` does not tell.

The text was accepted by `tomllib` before, so this reads only as much of the grammar as it takes to know where a table or a
key begins. Keys inside inline tables have the line of the key that holds them.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

KeyPath = tuple[str | int, ...]
"""Names of tables and key; a number for each position in an array of tables."""

_STRINGS: Final = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_OPENING: Final = frozenset("[{")
_CLOSING: Final = frozenset("]}")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Lines, counted from 1, of all tables and keys of a valid TOML text."""
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("[["):
            names = _resolve(_names(statement[2 : statement.rindex("]]")]), counts)
            position = counts.get(names, -1) + 1
            counts[names] = position
            table = (*names, position)
            found.setdefault(names, line)
            found[table] = line
        elif statement.startswith("["):
            table = _resolve(_names(statement[1 : statement.rindex("]")]), counts)
            found.setdefault(table, line)
        else:
            path = table
            for name in _names(statement):
                path = (*path, name)
                found.setdefault(path, line)
    return found


def _resolve(names: tuple[str, ...], counts: dict[KeyPath, int]) -> KeyPath:
    """Puts the position of the newest element after the name of each array of tables on the way."""
    path: KeyPath = ()
    for depth, name in enumerate(names, start=1):
        path = (*path, name)
        if depth < len(names) and path in counts:
            path = (*path, counts[path])
    return path


def _statements(text: str) -> list[tuple[int, str]]:
    """(line, text) of each table header, and of each `key` up to its `=`."""
    statements: list[tuple[int, str]] = []
    position, line, depth, begun = 0, 1, 0, -1
    start_line, in_value = 1, False
    while position < len(text):
        character = text[position]
        if begun < 0 and not in_value and not character.isspace() and character != "#":
            begun, start_line = position, line
        if character == "#":
            end = text.find("\n", position)
            if begun >= 0 and text[begun] == "[":
                statements.append((start_line, text[begun:position]))
                begun = -1
            position = len(text) if end < 0 else end
            continue
        if character in "\"'" and (match := _STRINGS.match(text, position)):
            line += match[0].count("\n")
            position = match.end()
            continue
        if begun >= 0 and character == "=" and text[begun] != "[":
            statements.append((start_line, text[begun:position]))
            begun, in_value = -1, True
        elif in_value and character in _OPENING:
            depth += 1
        elif in_value and character in _CLOSING:
            depth -= 1
        elif character == "\n":
            line += 1
            if begun >= 0:
                statements.append((start_line, text[begun:position]))
                begun = -1
            in_value = in_value and depth > 0
        position += 1
    if begun >= 0:
        statements.append((start_line, text[begun:]))
    return statements


def _names(dotted: str) -> tuple[str, ...]:
    """Names of a dotted key, quoted parts included: TOML itself takes it apart."""
    node = tomllib.loads(f"{dotted.strip()} = 0")
    names: list[str] = []
    while isinstance(node, dict):
        ((name, node),) = node.items()
        names.append(name)
    return tuple(names)
