"""A sample of what shadow.py does; with --whole, all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import shadow


@pytest.mark.parametrize("kernel", shadow.KERNELS)
def test_calls_answer_as_pages_do(
    kernel: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = 1500 if request.config.getoption("--whole") else 40
    program = shadow.Program(tmp_path, kernel)
    assert list(shadow.campaign(program, seed=0, count=count)) == []


def test_another_answer_is_noticed(tmp_path: Path) -> None:
    ops: list[shadow.Op] = [("shadow", (3, shadow.PAGE, 1))]
    window, lines = shadow.Program(tmp_path, "7.2").answers([ops])
    base, token = (shadow.expected(window, ops, returned)[0] for returned in (False, True))
    assert lines[0] == base != token
