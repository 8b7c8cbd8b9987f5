"""Who may spell what: SQL, namespaces, tables."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "client_api", "config")
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
NAMESPACE = re.compile(r"(urn:xmpp:|urn:ietf:params:xml|http://jabber\.org/|^jabber:|http://etherx\.jabber)")


def test_every_table_has_one_owner_that_exists() -> None:
    from homeserver.storage import schema

    for table in schema.metadata.sorted_tables:
        owner = table.info.get("owner")
        assert owner, f"table {table.name} has no owner"
        importlib.import_module(owner)


def test_namespaces_are_spelled_in_one_place() -> None:
    found = []
    for path in SOURCES:
        if path.name == "namespaces.py":
            continue
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
            if is_text and NAMESPACE.search(node.value):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.value[:60]!r}")
    assert found == []


@pytest.mark.parametrize("word", ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"])
def test_sql_is_written_in_storage_only(word: str) -> None:
    pattern = re.compile(rf"""["']{word}\w""")
    outside = [path for path in SOURCES if "storage" not in path.parts and pattern.search(path.read_text())]
    assert outside == []


def test_the_sql_toolkit_is_imported_in_storage_only() -> None:
    pattern = re.compile(r"^\s*(?:from|import) sqlalchemy", re.MULTILINE)
    assert [path for path in SOURCES if "storage" not in path.parts and pattern.search(path.read_text())] == []
