"""Tests ask at the border of a part: no private name of shstk, so that its inside can change.

ruff's SLF001 sees attributes; here are imports, and names in strings for monkeypatch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PUBLIC = {"_core"}  # the executor's module; its contract is _core.pyi


def is_private(dotted: str) -> bool:
    return any(
        name.startswith("_") and not name.startswith("__") and name not in PUBLIC
        for name in dotted.split(".")
    )


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=found) if module.startswith("shstk"):
                yield from (f"{module}.{alias.name}" for alias in found)
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=args):
                yield from (str(a.value) for a in args[:2] if isinstance(a, ast.Constant))


def test_no_private_name() -> None:
    found = {
        str(file.relative_to(TESTS)): private
        for file in TESTS.rglob("*.py")
        if (private := [n for n in names(ast.parse(file.read_text())) if is_private(n)])
    }
    assert found == {}
