"""Every setting is read by somebody, and every key that is said to be reloadable is taken over."""

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from config import settings as declared
from homeserver.services.limits import Limit

ROOT = Path(__file__).parents[2]
PACKAGES = ("homeserver", "federation", "client_api")
ALIASES = {"StorageSection": "StorageSettings"}
"""Structural types that stand for a section."""
ELSEWHERE = {
    ("ListenSettings", "cleartext_override"): "config/checks.py refuses a listener without it",
    ("GroupSettings", "subdomain"): "by Settings.labels",
    ("UploadSettings", "subdomain"): "by Settings.labels",
    ("Settings", "groups"): "by Settings.labels",
    ("Settings", "upload"): "by Settings.labels",
    ("PubSubSettings", "account_bytes"): "by services/pubsub/publishing.py, from Nodes.settings",
    ("PubSubSettings", "subscriptions"): "by services/pubsub/subscriptions.py, from Nodes.settings",
}
SECTIONS: dict[str, Any] = {
    name: kind for name, kind in vars(declared).items() if is_dataclass(kind) and name.endswith("Settings")
}


def types_of(section: str) -> dict[str, str]:
    """Fields of a section that hold a section, or a tuple of sections (``*`` before the name)."""
    found = {}
    for name, hint in get_type_hints(SECTIONS[section]).items():
        inner = [kind for kind in (hint, *get_args(hint)) if getattr(kind, "__name__", "") in SECTIONS]
        if inner:
            found[name] = inner[0].__name__ if hint is inner[0] else "*" + inner[0].__name__
    return found


class Reader(ast.NodeVisitor):
    """Follows names that hold a section through one module, and notes which of its fields are read.

    A name holds one by its annotation, by assignment from such a name (`self._settings = settings`), by a loop, or as the
    parameter of a lambda that is given to `Reloader.subscribe`.
    """

    def __init__(self, returns: dict[str, str]) -> None:
        self.reads: set[tuple[str, str]] = set()
        self._returns = returns
        self._names: dict[str, str] = {}

    def look(self, tree: ast.AST) -> None:
        # Twice: what a method reads may be assigned further down.
        for _ in range(2):
            self.visit(tree)

    def of(self, node: ast.AST | None) -> str | None:
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in self._names:
            return self._names[ast.unparse(node)]
        if isinstance(node, ast.Attribute):
            kind = self.of(node.value)
            return types_of(kind).get(node.attr) if kind in SECTIONS else None
        if isinstance(node, ast.BoolOp):
            return next((kind for kind in map(self.of, node.values) if kind), None)
        if isinstance(node, ast.Call):
            return self._returns.get(ast.unparse(node.func).rpartition(".")[2])
        return None

    def hold(self, target: ast.AST, kind: str | None) -> None:
        if kind is not None:
            self._names[ast.unparse(target)] = kind

    def visit_Attribute(self, node: ast.Attribute) -> None:
        kind = self.of(node.value)
        if kind in SECTIONS:
            self.reads.add((str(kind), node.attr))
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        named = section_in(node.annotation)
        # Another function's parameter of the same name and of another type must not inherit the section.
        if named is not None:
            self._names[node.arg] = named
        elif node.annotation is not None:
            self._names.pop(node.arg, None)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.hold(node.target, section_in(node.annotation))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self.hold(target, self.of(node.value))
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.comprehension) -> None:
        kind = self.of(node.iter)
        if kind is not None and kind.startswith("*"):
            self.hold(node.target, kind[1:])
        self.generic_visit(node)

    visit_comprehension = visit_For

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.SetComp) -> None:
        for loop in node.generators:
            self.visit(loop)
        self.generic_visit(node)

    visit_GeneratorExp = visit_DictComp = visit_SetComp = visit_ListComp  # noqa: N815

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "subscribe":
            for given in node.args:
                if isinstance(given, ast.Lambda) and given.args.args:
                    self._names[given.args.args[0].arg] = "Settings"
        self.generic_visit(node)


def section_in(annotation: ast.AST | None) -> str | None:
    """The section an annotation names: itself, or in a tuple, or in a union with None."""
    if annotation is None:
        return None
    text = ast.unparse(annotation).strip("'\"").removesuffix(" | None")
    many = text.startswith(("tuple[", "Sequence["))
    inner = text.partition("[")[2].partition(",")[0].rstrip("]") if many else text
    name = ALIASES.get(inner, inner)
    return ("*" if many else "") + name if name in SECTIONS else None


def sources() -> Iterator[ast.AST]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield ast.parse(path.read_text())


def read_settings() -> set[tuple[str, str]]:
    trees = list(sources())
    returns = {
        node.name: kind
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (kind := section_in(node.returns)) is not None
    }
    found: set[tuple[str, str]] = set()
    for tree in trees:
        reader = Reader(returns)
        reader.look(tree)
        found |= reader.reads
        # Limits are read by the value of `Limit`, so whoever names the member reads the setting.
        found |= {
            ("LimitSettings", Limit[node.attr].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Limit" and node.attr in Limit.__members__
        } - declared_only(tree)
    return found


def declared_only(tree: ast.AST) -> set[tuple[str, str]]:
    """Limits that a module names only as keys of a table of names."""
    uses = [
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Limit"
    ]
    keys = [
        key.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Attribute) and ast.unparse(key.value) == "Limit"
    ]
    return {("LimitSettings", Limit[name].value) for name in keys if uses.count(name) == keys.count(name)}


def test_every_setting_is_read() -> None:
    wanted = {(name, field.name) for name, kind in SECTIONS.items() for field in fields(kind)}
    assert sorted(wanted - read_settings() - set(ELSEWHERE)) == []


def test_a_setting_nobody_reads_is_found() -> None:
    """The reader follows what holds a section, not what has the name of a setting."""
    source = """
class Taker:
    def __init__(self, settings: ArchiveSettings, other: Other) -> None:
        self._settings = settings
        self._other = other

    def use(self) -> None:
        print(self._settings.page_max, self._other.page_default)
        for entry in everything().listen:
            print(entry.port)
"""
    reader = Reader({"everything": "Settings"})
    reader.look(ast.parse(source))
    assert reader.reads == {("ArchiveSettings", "page_max"), ("Settings", "listen"), ("ListenSettings", "port")}


def test_sections_are_all_in_the_file() -> None:
    reached, todo = set(), ["Settings"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += [kind.lstrip("*") for kind in types_of(name).values() if kind.lstrip("*") not in reached]
    assert reached == set(SECTIONS)
