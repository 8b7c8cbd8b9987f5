"""Turns a TOML file into `Settings`.

Every fault of a file is reported at once; each names file, line, key, what was found, what is expected and, for an unknown
key, the nearest known one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from config.checks import faults_of
from config.lines import KeyPath, key_lines
from config.schema import Key, describe_type, keys_of, show_found
from config.settings import Settings


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a configuration file; `line` is None when the fault has no place in it."""

    line: int | None
    key: str
    found: str
    expected: str
    nearest: str | None = None

    def __str__(self) -> str:
        text = f"{self.key}: found {self.found}, expected {self.expected}"
        return f"{text}; did you mean `{self.nearest}`?" if self.nearest else text


class SettingsError(Exception):
    """The configuration cannot be used; `problems` says why, the text has one line for each."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__(
            "\n".join(
                f"{path}:{problem.line}: {problem}" if problem.line else f"{path}: {problem}" for problem in problems
            )
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that differ between two configurations: those a running server takes over, and those that need a restart."""

    applied: tuple[str, ...]
    restart: tuple[str, ...]


def load_settings(path: Path) -> Settings:
    """Settings of a file. Raises `SettingsError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        remedy = "a configuration file; `parley quickstart you@example.org` writes one"
        raise SettingsError(path, [Problem(None, "file", "nothing", remedy)]) from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            path, [Problem(None, "file", f"byte {error.start} that is not UTF-8", "UTF-8 text")]
        ) from error
    except OSError as error:
        raise SettingsError(path, [Problem(None, "file", str(error.strerror), "a readable file")]) from error
    return read_settings(text, path)


def read_settings(text: str, path: Path) -> Settings:
    """Settings of a TOML text; `path` is where relative paths start and what errors name. Raises `SettingsError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        reason = str(error).partition(" (at ")[0]
        line = int(place[1]) if place else text.count("\n") + 1
        raise SettingsError(path, [Problem(line, "syntax", reason, "TOML")]) from error
    reader = _Reader(key_lines(text), path.absolute().parent)
    settings = reader.section(Settings, document, ())
    if settings is not None and not reader.problems:
        assert isinstance(settings, Settings)
        reader.problems += [
            Problem(reader.line(fault.path), dotted(fault.path), fault.found, fault.expected)
            for fault in faults_of(settings)
        ]
        if not reader.problems:
            return settings
    raise SettingsError(path, sorted(reader.problems, key=lambda problem: problem.line or 0))


def compare(old: Settings, new: Settings) -> Changes:
    """What a reload changes."""
    applied: list[str] = []
    restart: list[str] = []
    for name, reloadable in _differences(old, new, ""):
        (applied if reloadable else restart).append(name)
    return Changes(tuple(applied), tuple(restart))


def dotted(path: KeyPath) -> str:
    """A key path for people: `listen[2].port`, elements counted from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _differences(old: Any, new: Any, prefix: str) -> Iterator[tuple[str, bool]]:
    kind: type = type(old)
    for key in keys_of(kind).values():
        before, after = getattr(old, key.name), getattr(new, key.name)
        if before == after:
            continue
        if key.section is not None and not key.many:
            yield from _differences(before, after, f"{prefix}{key.name}.")
        else:
            reloadable = key.about.reloadable
            if key.section is not None:
                reloadable = all(inner.about.reloadable for inner in keys_of(key.section).values())
            yield f"{prefix}{key.name}", reloadable


class _Reader:
    """Builds the sections of one file and collects what is wrong with it."""

    def __init__(self, lines: dict[KeyPath, int], folder: Path) -> None:
        self._lines = lines
        self._folder = folder
        self._data_dir = folder
        self.problems: list[Problem] = []

    def line(self, path: KeyPath) -> int | None:
        """Line of a key, or of the nearest table around it; None when the file has neither."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def section(self, kind: type, table: dict[str, Any], path: KeyPath) -> object | None:
        """An instance of the section, or None after problems were noted."""
        before = len(self.problems)
        keys = keys_of(kind)
        values: dict[str, Any] = {}
        rest = dict(table)
        for key in keys.values():
            if key.section is not None:
                self._tables(key, rest, path, values)
                continue
            self._secret(key, rest, path)
            if key.name in rest:
                self._value(key, rest.pop(key.name), (*path, key.name), values)
            elif key.is_required:
                self._note((*path, key.name), "nothing", key.expected())
            elif isinstance(key.default, Path):
                values[key.name] = self._absolute(key, key.default)
            if key.name == "data_dir":
                self._data_dir = values.get("data_dir", self._folder)
        for name, value in rest.items():
            self._unknown(kind, (*path, name), value)
        return kind(**values) if len(self.problems) == before else None

    def _tables(self, key: Key, rest: dict[str, Any], path: KeyPath, values: dict[str, Any]) -> None:
        assert key.section is not None
        here = (*path, key.name)
        if not key.many:
            table = rest.pop(key.name, {})
            if not isinstance(table, dict):
                self._note(here, show_found(table), f"a table [{dotted(here)}]")
                return
            values[key.name] = self.section(key.section, table, here)
        elif key.name in rest:
            array = rest.pop(key.name)
            if not isinstance(array, list) or not all(isinstance(item, dict) for item in array):
                self._note(here, show_found(array), f"an array of tables [[{dotted(here)}]]")
                return
            values[key.name] = tuple(self.section(key.section, item, (*here, at)) for at, item in enumerate(array))

    def _value(self, key: Key, value: Any, path: KeyPath, values: dict[str, Any]) -> None:
        try:
            converted = key.convert(value)
        except ValueError as error:
            self._note(path, "a value that is not shown" if key.about.secret else show_found(value), str(error))
            return
        values[key.name] = self._absolute(key, converted) if isinstance(converted, Path) else converted

    def _secret(self, key: Key, rest: dict[str, Any], path: KeyPath) -> None:
        """Replaces `<key>_file` by the content of the file it names."""
        name = f"{key.name}_file"
        if not key.about.secret or name not in rest:
            return
        value = rest.pop(name)
        if not isinstance(value, str) or not value:
            self._note((*path, name), show_found(value), describe_type(Path))
            return
        try:
            rest.setdefault(key.name, (self._folder / value).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            self._note((*path, name), f"{show_found(value)}, which cannot be read", "a readable text file")

    def _absolute(self, key: Key, path: Path) -> Path:
        return (self._data_dir if key.about.in_data_dir else self._folder) / path.expanduser()

    def _unknown(self, kind: type, path: KeyPath, value: Any) -> None:
        name = str(path[-1])
        known = list(keys_of(kind))
        nearest = next(iter(get_close_matches(name, known, 1)), None)
        if nearest is not None:
            nearest = dotted((*path[:-1], nearest))
        else:
            nearest = next((full for full in _all_keys(Settings, "") if full.rpartition(".")[2] == name), None)
        found = "an unknown table" if isinstance(value, dict) else "an unknown key"
        expected = "a known key" if nearest else "one of " + ", ".join(known)
        self.problems.append(Problem(self.line(path), dotted(path), found, expected, nearest))

    def _note(self, path: KeyPath, found: str, expected: str) -> None:
        self.problems.append(Problem(self.line(path), dotted(path), found, expected))


def _all_keys(kind: type, prefix: str) -> Iterator[str]:
    for key in keys_of(kind).values():
        if key.section is None:
            yield prefix + key.name
        else:
            yield from _all_keys(key.section, f"{prefix}{key.name}.")
