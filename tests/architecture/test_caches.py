"""What is remembered has a bound: peers choose the names by which things are remembered (S-161)."""

import ast

from tests.architecture.test_layers import ROOT, sources


def test_every_cached_function_has_a_bound() -> None:
    unbounded = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for decorator in node.decorator_list:
                    text = ast.unparse(decorator)
                    if text in ("cache", "functools.cache", "lru_cache") or "maxsize=None" in text:
                        unbounded.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert unbounded == []
