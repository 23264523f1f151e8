"""Every condition of every rule matters: if one is inverted, a listing of the rule must fail.

A mutant is a rule's module with one condition changed: a comparison reversed, `and` for `or`, a
`not` or `~` removed. surviving_mutants.txt lists those that no listing can notice, each with the
reason, and no others.

    python tests/rules/test_mutation.py [RULE…]

prints the survivors.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

import pytest

from shstk.listing import build_run
from shstk.listing.expected import Expected, expectations, verdicts
from shstk.replay.check import check
from shstk.replay.rules import CATALOGUE, RULES
from shstk.replay.run import Run

sys.path.insert(0, str(Path(__file__).parent))

from test_rules import HERE

SOURCES: Final = Path(__file__).parents[2] / "replay" / "rules"
SURVIVORS: Final = HERE / "surviving_mutants.txt"
MODULES: Final = {id: name for id, name, _ in CATALOGUE}

_TURNED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


class Turn(ast.NodeTransformer):
    """Changes the n-th condition of a module; `name` identifies it without line numbers."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.name = ""

    def _hit(self, node: ast.AST) -> bool:
        self.left -= 1
        if self.left != -1:
            return False
        self.name = ast.unparse(node)
        return True

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in _TURNED and self._hit(node):
            node.ops[0] = _TURNED[type(node.ops[0])]()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._hit(node):
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """& and | of expressions over columns."""
        self.generic_visit(node)
        if isinstance(node.op, ast.BitAnd | ast.BitOr) and _of_columns(node) and self._hit(node):
            node.op = ast.BitOr() if isinstance(node.op, ast.BitAnd) else ast.BitAnd()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.Invert) and self._hit(node):
            return (
                ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
                if isinstance(node.op, ast.Not)
                else node.operand
            )
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return node  # tables of constants, and annotations

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(part) for part in node.body]  # not its annotations
        return node


def _of_columns(node: ast.BinOp) -> bool:
    """Whether an operand is a condition over columns rather than a bit mask."""
    sides = (node.left, node.right)
    return any(isinstance(s, ast.Compare | ast.UnaryOp) or ".is_" in ast.unparse(s) for s in sides)


def mutants(rule: str) -> Iterator[tuple[str, CodeType]]:
    """Every mutant of a rule: its name, unique in the rule, and its code."""
    path = SOURCES / f"{MODULES[rule]}.py"
    seen: dict[str, int] = {}
    n = 0
    while True:
        turn = Turn(n)
        tree = ast.fix_missing_locations(turn.visit(ast.parse(path.read_text())))
        if turn.left >= 0:
            return
        seen[turn.name] = seen.get(turn.name, 0) + 1
        again = f" #{seen[turn.name]}" if seen[turn.name] > 1 else ""
        yield f"{rule} {turn.name}{again}", compile(tree, str(path), "exec")
        n += 1


@cache
def runs(rule: str) -> list[tuple[str, str, Run, frozenset[Expected]]]:
    """The runs of a rule's own listing, each with the rule's verdicts."""
    listing = HERE / f"{rule}.md"
    wanted = {e for e in expectations(listing.read_text()) if e.rule == rule}
    return [
        (run, expect, build_run(listing.read_text(), run, listing.name), _said(rule, run, expect))
        for run, expect in sorted({(e.run, e.expect) for e in wanted})
    ]


def _said(rule: str, run: str, expect: str) -> frozenset[Expected]:
    listing = HERE / f"{rule}.md"
    return frozenset(
        e
        for e in expectations(listing.read_text())
        if (e.run, e.expect, e.rule) == (run, expect, rule)
    )


def noticed(rule: str, code: CodeType) -> bool:
    """Whether the mutant judges some run of the rule's listing differently."""
    module = ModuleType(f"shstk.replay.rules.{MODULES[rule]}")
    try:
        exec(code, module.__dict__)
        mutant = replace(
            RULES[rule], instances=module.check, needs=module.NEEDS, applies=module.APPLIES
        )
        for run, expect, built, wanted in runs(rule):
            found = verdicts(
                check(built, expect=expect, select=[rule], rules={rule: mutant}).findings,
                run,
                expect,
            )
            if found != wanted:
                return True
    except Exception:  # a mutant that breaks is noticed
        return True
    return False


def survivors() -> dict[str, str]:
    """The reason why no listing can, or need, notice a mutant, by the mutant's name."""
    lines = [line for line in SURVIVORS.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("  # ", 1) for line in lines)


@pytest.mark.sample(30)
@pytest.mark.parametrize("rule", RULES)
def test_an_inverted_condition_is_noticed(rule: str) -> None:
    lived = {name for name, code in mutants(rule) if not noticed(rule, code)}
    assert lived == {name for name in survivors() if name.split()[0] == rule}


def test_survivors_have_a_reason() -> None:
    for name, why in survivors().items():
        assert name.split()[0] in RULES, name
        assert why.strip(), name
        assert not why.strip().lower().startswith("open"), f"{name}: give the reason"


if __name__ == "__main__":
    tried = lived = 0
    known = survivors()
    for rule in sys.argv[1:] or RULES:
        for name, code in mutants(rule):
            tried += 1
            if not noticed(rule, code):
                lived += 1
                print(name, "" if name in known else "(new)", flush=True)
    print(f"{tried} mutants, {lived} survive")
