"""PR_GET_CFI and PR_SET_CFI under the revisions that lack them, and those that differ."""

from __future__ import annotations

import pytest
from direct import Direct

PR_SET_CFI = 81
ON, OFF, UNKNOWN_BIT = 1, 2, 8


def set_cfi(kernel: str, value: int, abi: str = "merged") -> tuple[int | str, bool]:
    """The result of PR_SET_CFI, and whether landing pads are enabled afterwards."""
    d = Direct(kernel=kernel)
    d.k.abi = abi
    return d.call("prctl", PR_SET_CFI, 0, value, 0, 0), d.t.cfi.lp_en


@pytest.mark.parametrize("kernel", ["v3", "7.0", "7.1", "7.2"])
def test_programs_for_the_merged_kernel_have_the_options_under_every_revision(kernel: str) -> None:
    assert set_cfi(kernel, ON) == (0, True)
    assert set_cfi(kernel, ON | OFF) == ("EINVAL", False)


def test_under_its_own_numbers_a_posting_has_no_such_option() -> None:
    assert set_cfi("v3", ON, "own") == ("EINVAL", False)
    assert set_cfi("7.0", ON, "own") == (0, True)


@pytest.mark.parametrize("kernel", ["v3", "7.1", "7.2", "7.0,cfi_prctl=known_bits"])
def test_unknown_bits_are_refused(kernel: str) -> None:
    assert set_cfi(kernel, ON | UNKNOWN_BIT) == ("EINVAL", False)


@pytest.mark.parametrize("kernel", ["7.0", "7.2,cfi_prctl=any_bits"])
def test_before_7_1_unknown_bits_are_not_looked_at(kernel: str) -> None:
    assert set_cfi(kernel, ON | UNKNOWN_BIT) == (0, True)
