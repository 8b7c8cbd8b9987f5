"""Every test that the threat model names exists, and every threat test is named there."""

import ast
import re

from tests.architecture.test_layers import ROOT

ROW = re.compile(r"^\| (S-\d+(?:, S-\d+)*) \| [^|]+ \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")
PAGE = ROOT / "docs" / "threat-model.md"


DEMANDED = {
    49,
    51,
    64,
    65,
    66,
    67,
    68,
    69,
    70,
    71,
    72,
    75,
    76,
    77,
    78,
    79,
    80,
    88,
    144,
    145,
    146,
    147,
    154,
    161,
    163,
} | set(range(120, 129))
"""Cases of clients and their features that have to be there."""


def defined(path: str) -> set[str]:
    """Test functions of a file below ``tests/``, in classes too."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_the_threat_model_names_exists() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) >= 80
    missing = []
    for case, cell in rows:
        names = NAME.findall(cell)
        assert names, case
        for path, name in names:
            if not (ROOT / "tests" / path).exists() or name not in defined(path):
                missing.append(f"{case}: {path}::{name}")
    assert missing == []


def test_every_case_stands_there_once() -> None:
    cases = [number for case, _ in ROW.findall(PAGE.read_text()) for number in case.split(", ")]
    assert len(cases) == len(set(cases))


def test_cases_of_clients_are_there() -> None:
    cases = {int(number[2:]) for case, _ in ROW.findall(PAGE.read_text()) for number in case.split(", ")}
    assert DEMANDED - cases == set()


def test_every_threat_test_is_in_the_threat_model() -> None:
    named = {(path, name) for _, cell in ROW.findall(PAGE.read_text()) for path, name in NAME.findall(cell)}
    files = sorted((ROOT / "tests" / "e2e").glob("test_threats_*.py"))
    assert files
    absent = []
    for file in files:
        path = f"e2e/{file.name}"
        absent += [f"{path}::{name}" for name in defined(path) if (path, name) not in named]
    assert absent == []
