"""What the documentation says exists, and nothing in the project speaks of the machine it was made on."""

import re
import subprocess
from pathlib import Path

import click

from homeserver.cli.main import parley

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#|mailto:)([^)#\s]+)")
MACHINE = re.compile(r"(?<![\w.])/(?:work|opt|root|home)/|pypi-more|(?<!no-emit-)index-url", re.IGNORECASE)


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in LINK.findall(page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for name in parley.list_commands(click.Context(parley)):
        assert f"parley {name}" in text, name


def test_no_file_speaks_of_the_machine_it_was_made_on() -> None:
    found = []
    for path in tracked():
        if path.suffix in (".png", ".ico") or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_locks_have_hashes_and_cover_the_declared_dependencies() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {
        "run": project["project"]["dependencies"],
        "test": [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]],
    }
    pins: dict[str, dict[str, str]] = {}
    for kind, requirements in declared.items():
        text = (ROOT / "requirements" / f"{kind}.lock").read_text()
        blocks = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        assert all("--hash=sha256:" in rest for _, _, rest in blocks)
        pins[kind] = {name: version for name, version, _ in blocks}
        for requirement in requirements:
            name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
            assert name in pins[kind], f"{name} is not in {kind}.lock"
    assert pins["run"].items() <= pins["test"].items()
