"""Handlers are registered by names from schemas, each once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel.call import Call
from shstk.tracer.kernel.table import CALLS, gather

KERNEL = Path(__file__).parents[2] / "tracer" / "kernel"
BY_NAME = {call.name: call for call in CALLS.values()}


def _nothing(k: object, t: object, a: object) -> int:
    return 0


def test_every_handler_has_the_number_of_its_name() -> None:
    assert all(SYSCALLS[call.name].number == number for number, call in CALLS.items())


def test_a_name_that_schemas_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schemas/syscalls\.py has no call 'opennat'"):
        gather([Call("opennat", _nothing)])


def test_two_handlers_for_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows for call 'openat'"):
        gather([Call("openat", _nothing), Call("openat", _nothing)])


def _limits() -> list[tuple[str, str]]:
    """The calls of Kernel.limit in the model: system call and words."""
    found: list[tuple[str, str]] = []
    for file in KERNEL.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            given = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if node.func.attr == "limit" and len(given) == 2:
                found.append((str(given[0]), str(given[1])))
    return found


def test_a_limit_that_is_met_is_one_of_the_words_of_its_row() -> None:
    limits = _limits()
    assert len(limits) >= 9
    assert [(name, words) for name, words in limits if words not in BY_NAME[name].why] == []


def test_nearly_every_call_of_linux_has_a_row() -> None:
    """A refusal by name tells more than "unknown"."""
    missing = {name for name, call in SYSCALLS.items() if call.number not in CALLS}
    assert missing <= {"mlock2", "process_madvise", "remap_file_pages"}
