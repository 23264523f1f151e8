"""A sample of each suite that others wrote; the whole by each suite's own command."""

from __future__ import annotations

import cfi_selftest
import generated
import pytest
import torture
from debian import skipping_loudly

SAMPLE = 70  # one in so many of gcc's tests
SEEDS = range(1, 6)


def test_gcc_torture_sample() -> None:
    with skipping_loudly("the sample of gcc's torture tests"):
        chosen = torture.names(torture.folder())[::SAMPLE]
        counts = torture.run(chosen, jobs=1)
        assert len(chosen) > 20
        assert counts.total() == len(chosen)
        assert not counts["unexplained"], "see the output"


def test_csmith_sample() -> None:
    with skipping_loudly("the sample of csmith's programs"):
        counts = generated.run(SEEDS)
        assert counts["pass"]
        assert not counts["different"], "see the output"


@pytest.mark.parametrize("kernel", ["7.2"])
def test_the_kernels_own_selftest(kernel: str) -> None:
    with skipping_loudly("the kernel's selftest riscv/cfi"):
        result = cfi_selftest.selftest(kernel)
        results = [line for line in result.output.splitlines() if line.startswith(("ok", "not ok"))]
        assert result.ending == "exited with 0", result.output
        assert len(results) == 5
        assert all(line.startswith("ok") for line in results), result.output


def test_every_row_of_the_table_has_its_test_and_reason() -> None:
    rows = torture.explained()
    assert all(row.ending and row.reason for row in rows.values())
    assert all(row.ending != "exited with 0" for row in rows.values())
    with skipping_loudly("the table's names"):
        assert rows.keys() <= set(torture.names(torture.folder()))
