"""A sample of vector_programs.py; hundreds of thousands of cases are run by hand.

Needs a qemu with Zvbb (Debian 13's); 7.2 aborts on many of these words. QEMU_RISCV64 may name one
that is not on the path.
"""

import pytest
from vector_programs import CASES, QEMU, differences, qemu_command


@pytest.mark.parametrize("seed", range(4))
def test_same_state_as_qemu(seed: int) -> None:
    command = qemu_command(QEMU) if QEMU else None
    if command is None:
        pytest.skip("no qemu-riscv64 with vectors and Zvbb: install Debian 13's qemu-user")
    assert not differences(seed, CASES, command)
