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


ON_BEHALF = {
    # One statement per table and commit, for their owners.
    "homeserver.storage.batch": {"log", "mailbox", "outbox", "stream", "commit_mark"},
    # The smallest write there is, to learn whether the store takes any.
    "homeserver.storage.health": {"commit_mark"},
    # What goes from the mailboxes, beside what is in them.
    "homeserver.storage.mailbox_removal": {"log", "entry", "mailbox"},
}
"""Tables that a module may write without owning them."""


def written_tables(source: str) -> set[str]:
    """The tables that a module of the storage layer inserts into, updates or deletes from."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "homeserver.storage.schema"
        for alias in node.names
    }

    def table(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "schema":
            return node.attr
        return None

    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        verb = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if verb not in ("insert", "update", "delete", "upsert"):
            continue
        of = table(node.func.value) if isinstance(node.func, ast.Attribute) else None
        found |= {name for name in (of, *map(table, node.args)) if name is not None}
    return found


def strangers(module: str, source: str) -> set[str]:
    """Tables that ``module`` writes and does not own."""
    from homeserver.storage import schema

    written = written_tables(source) - ON_BEHALF.get(module, set())
    return {name for name in written if schema.metadata.tables[name].info["owner"] != module}


def test_a_table_is_written_by_its_owner_only() -> None:
    found = {
        path.stem: strange
        for path in sorted((ROOT / "homeserver/storage").glob("*.py"))
        if (strange := strangers(f"homeserver.storage.{path.stem}", path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    ["insert(contact)", "update(contact).values(name='x')", "contact.delete()", "dialect.upsert(conn, contact)"],
)
def test_a_planted_writer_is_found(line: str) -> None:
    source = f"from homeserver.storage import dialect, schema\nfrom homeserver.storage.schema import contact\n{line}\n"
    assert strangers("homeserver.storage.accounts", source) == {"contact"}
    assert strangers("homeserver.storage.contacts", source) == set()


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
