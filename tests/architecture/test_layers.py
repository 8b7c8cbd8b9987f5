"""The import contract holds, and it would be noticed if it did not; files and functions keep their size."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "client_api", "config")
MODULE_LINES = 400
FUNCTION_LINES = 60
LONGER: dict[str, str] = {
    "homeserver/app/http.py:build_json": "the composition root is read from top to bottom",
    "homeserver/app/rules.py:build_rules": "the composition root is read from top to bottom",
    "homeserver/app/server.py:build": "the composition root is read from top to bottom",
    "homeserver/app/xmpp.py:build_xmpp": "the composition root is read from top to bottom",
    "homeserver/storage/migrations/versions/0001_tables.py": "one migration is one list of tables, written by a program",
    "homeserver/storage/migrations/versions/0001_tables.py:downgrade": "one migration is one list of tables",
    "homeserver/storage/migrations/versions/0001_tables.py:upgrade": "one migration is one list of tables",
    "homeserver/storage/schema.py": "every table on one page",
}
"""Modules and functions above the limits, each with the reason: `path` or `path:function`."""


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_imports_follow_the_contract() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("homeserver/domain/planted.py", "import homeserver.services.clock"),
        ("homeserver/protocol/planted.py", "import asyncio"),
        ("homeserver/services/planted.py", "import sqlalchemy"),
        ("config/planted.py", "import homeserver.protocol.jid"),
        ("federation/planted.py", "import client_api.http"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, module: str, line: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).write_text(line + "\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "planted" in done.stdout


def test_modules_are_short() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES and name not in LONGER} == {}


def test_functions_are_short() -> None:
    long: dict[str, int] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                size = node.end_lineno - node.lineno + 1
                name = f"{path.relative_to(ROOT)}:{node.name}"
                if size > FUNCTION_LINES and name not in LONGER:
                    long[name] = size
    assert long == {}


def test_no_class_takes_more_than_seven_collaborators() -> None:
    many: dict[str, int] = {}
    values = frozen_classes()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                        arguments = [*inner.args.posonlyargs, *inner.args.args][1:]
                        collaborators = [a for a in arguments if _is_collaborator(a.annotation, values)]
                        if len(collaborators) > 7:
                            many[f"{path.relative_to(ROOT)}:{node.name}"] = len(collaborators)
    assert many == {}


def test_nothing_is_named_after_nothing() -> None:
    empty = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert [str(path) for path in sources() if path.stem in empty or path.parent.name in empty] == []


def frozen_classes() -> set[str]:
    """Names of the classes that are plain values."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(d) for d in node.decorator_list):
                found.add(node.name)
    return found


def _is_collaborator(annotation: ast.expr | None, values: set[str]) -> bool:
    """Objects of this project that do something: not plain values, which begin in lower case or are frozen."""
    text = ast.unparse(annotation) if annotation is not None else ""
    return text[:1].isupper() and text not in values and not text.startswith(("Path", "Sequence", "Callable"))
