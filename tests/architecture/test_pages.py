"""Files and names that the pages mention are there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MENTION = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|service|lock|md|json|xml)|[\w]+\.py)(?:: ([\w.]+))?`")
EXAMPLES = frozenset(("data_dir/keys/DOMAIN.json",))
"""Paths of a running server."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in listed.stdout.split("\0") if name]


def faults(text: str, files: list[str]) -> list[str]:
    """What ``text`` mentions that does not exist; a path may leave out folders at its beginning."""
    wrong = []
    for path, name in MENTION.findall(text):
        found = [file for file in files if f"/{file}".endswith(f"/{path}")]
        if path in EXAMPLES:
            continue
        if not found:
            wrong.append(path)
        elif name and not any(has(file, name) for file in found):
            wrong.append(f"{path}: {name}")
    return wrong


def has(file: str, name: str) -> bool:
    """Whether every part of a dotted name is defined in the file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return all(re.search(rf"(?:class|def) {part}\b|^\s*{part}\b.* = ", text, re.MULTILINE) for part in name.split("."))


def test_what_pages_mention_exists() -> None:
    files = tracked()
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    wrong = {str(page.relative_to(ROOT)): found for page in pages if (found := faults(page.read_text(), files))}
    assert wrong == {}


@pytest.mark.parametrize("text", ["`services/nowhere.py`", "`homeserver/app/server.py: Nothing`"])
def test_a_planted_mention_is_found(text: str) -> None:
    assert faults(text, tracked())
