"""Who imports whom in the four folders of the repository, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "shstk": "shstk",
    "tracer": "shstk.tracer",
    "replay": "shstk.replay",
    "schemas": "shstk.schemas",
}


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str  # a module of the package
    line: int
    when: str  # "load", "call" (inside a function) or "types" (under TYPE_CHECKING)


def modules() -> dict[str, Path]:
    """Module name, as installed -> its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            parts = [package, *file.relative_to(ROOT / folder).with_suffix("").parts]
            name = ".".join(part for part in parts if part != "__init__")
            found[name] = file
    return found


def imports(known: dict[str, Path]) -> list[Import]:
    """Every import of a module of the package by another."""
    return [
        Import(name, imported, line, when)
        for name, file in known.items()
        for imported, line, when in _walk(ast.parse(file.read_text()), "load", known)
        if imported != name
    ]


def _walk(node: ast.AST, when: str, known: dict[str, Path]) -> Iterator[tuple[str, int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                if alias.name in known:
                    yield alias.name, child.lineno, when
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                if whole in known:
                    yield whole, child.lineno, when
                elif child.module in known:
                    yield child.module, child.lineno, when
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            yield from _walk(ast.Module(child.body, []), "types", known)
            yield from _walk(ast.Module(child.orelse, []), when, known)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(child, "call" if when == "load" else when, known)
        else:
            yield from _walk(child, when, known)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def circles(edges: list[tuple[str, str]]) -> list[list[str]]:
    """Groups of modules that reach each other, largest first (Tarjan's components)."""
    graph: dict[str, list[str]] = {}
    for a, b in edges:
        graph.setdefault(a, []).append(b)
        graph.setdefault(b, [])
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in graph[v]:
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            group = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(group) > 1:
                found.append(sorted(group))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return sorted(found, key=len, reverse=True)
