"""Writes `config/homeserver.example.toml` and `docs/configuration.md` from the declarations in `settings.py`.

Run `python -m config.describe` in the root of the source tree after a change; a test fails while the two are stale.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Final, Literal, get_origin

from config.schema import Key, keys_of, write_value
from config.settings import Settings

EXAMPLE: Final = Path("config/homeserver.example.toml")
REFERENCE: Final = Path("docs/configuration.md")
_SAMPLES: Final[dict[str, str]] = {
    "domains": '["example.org"]',
    "tls.certificate.certificate_file": '"/etc/parley/example.org.pem"',
    "tls.certificate.key_file": '"/etc/parley/example.org.key"',
    "federation.peer.domain": '"partner.example"',
    "federation.peer.url": '"https://parley.partner.example/federation"',
    "federation.peer.ca_file": '"/etc/parley/partner-ca.pem"',
    "federation.url": '"https://example.org/federation"',
    "http.public_url": '"https://example.org"',
    "upload.public_url": '"https://files.example.org"',
    "storage.url": '"postgresql://parley@localhost/parley"',
    "external_service.type": '"turn"',
    "external_service.host": '"turn.example.org"',
    "external_service.secret": '"a long random text"',
    "component.domain": '"irc.example.org"',
    "component.secret": '"another long random text"',
}
_ACTIVE: Final = ("tls.certificate",)
_HEAD: Final = """\
# Configuration of Parley: every key at its default.
# Generated from config/settings.py; change it there and run `python -m config.describe`.
# Copy what you need. A line that begins with `#` and a key is the default.
"""
_INTRODUCTION: Final = """\
# Configuration

Generated from `config/settings.py`; change it there and run `python -m config.describe`.

Parley reads one TOML file: `parley serve --config FILE`, or the file that `PARLEY_CONFIG` names, or `parley.toml` in the
current folder. `parley quickstart you@example.org` writes one. [homeserver.example.toml](../config/homeserver.example.toml)
has every key.

- A size is a text such as `"10 MiB"`, a duration one such as `"30 days"`, a rate one such as `"20 per minute"`.
- A relative path starts at the folder of the configuration file; the database and the keys start at `data_dir`.
- A key marked *file* may be given as `<key>_file`, the name of a file that holds the value.
- *Reload* says that SIGHUP applies a change without a restart or a lost connection.
- `parley check` reads the file and says what is wrong with it, with line, key, what was found and what is expected.
"""


def example_file() -> str:
    """The text of the example file."""
    return "\n".join([_HEAD, *_example(Settings, "")]).rstrip() + "\n"


def reference_page() -> str:
    """The text of the reference page."""
    lines = [_INTRODUCTION, "## Top of the file", "", *_table(Settings)]
    for key in _sections(Settings):
        lines += _section_page(key, key.name)
    return "\n".join(lines).rstrip() + "\n"


def main(root: Path) -> None:
    """Writes both files below `root`."""
    (root / EXAMPLE).write_text(example_file(), encoding="utf-8")
    (root / REFERENCE).write_text(reference_page(), encoding="utf-8")


def _example(kind: type, name: str) -> Iterator[str]:
    for key in keys_of(kind).values():
        if key.section is None:
            full = f"{name}.{key.name}" if name else key.name
            yield from _comment(_meaning(key))
            mark = "" if key.is_required and (not name or name in _ACTIVE) else "#"
            yield f"{mark}{key.name} = {_default(key, full)}"
    for key in _sections(kind):
        assert key.section is not None
        full = f"{name}.{key.name}" if name else key.name
        yield ""
        yield from _comment(_doc(key.section))
        if key.many:
            yield from _comment(key.about.sentence)
            yield f"{'' if full in _ACTIVE else '#'}[[{full}]]"
        else:
            yield f"[{full}]"
        yield from _example(key.section, full)


def _section_page(key: Key, name: str) -> Iterator[str]:
    assert key.section is not None
    yield from ("", f"## `[[{name}]]`" if key.many else f"## `[{name}]`", "", _doc(key.section))
    if key.many:
        yield f"May be repeated. {key.about.sentence}"
    yield ""
    yield from _table(key.section)
    for inner in _sections(key.section):
        yield from _section_page(inner, f"{name}.{inner.name}")


def _table(kind: type) -> list[str]:
    keys = [key for key in keys_of(kind).values() if key.section is None]
    if not keys:
        return []
    rows = ["| key | default | value | | meaning |", "|---|---|---|---|---|"]
    for key in keys:
        marks = [word for word, on in (("reload", key.about.reloadable), ("file", key.about.secret)) if on]
        default = "required" if key.is_required else f"`{_default(key, '')}`" if key.default is not None else "not set"
        rows.append(
            f"| `{key.name}` | {default} | {_cell(key.expected())} | {', '.join(marks)} | {_cell(key.about.sentence)} |"
        )
    return rows


def _default(key: Key, full: str) -> str:
    if key.default is MISSING or key.default is None:
        return _SAMPLES.get(full, '"xmpp"' if key.name == "kind" else "5222" if key.name == "port" else '""')
    return write_value(key.hint, key.default)


def _meaning(key: Key) -> str:
    notes = [key.about.sentence]
    if key.about.at_least is not None or key.about.at_most is not None or get_origin(key.hint) is Literal:
        notes.append(f"Value: {key.expected()}.")
    if key.is_required:
        notes.append("Required.")
    elif key.default is None:
        notes.append("Not set by default.")
    if key.about.secret:
        notes.append(f"Or {key.name}_file, a file that holds it.")
    if key.about.reloadable:
        notes.append("Reload: yes.")
    return " ".join(notes)


def _sections(kind: type) -> list[Key]:
    return [key for key in keys_of(kind).values() if key.section is not None]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def _doc(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main(Path.cwd())
