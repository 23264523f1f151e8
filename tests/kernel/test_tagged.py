"""PR_SET_TAGGED_ADDR_CTRL: the checks of the kernel's selftest riscv/abi/pointer_masking."""

from __future__ import annotations

import pytest
from direct import Direct

from shstk.tracer.kernel.task import InCall

SET, GET, ENABLE, SHIFT = 55, 56, 1, 24
CLONE_VM_THREAD = 0x100 | 0x10000 | 0x800


@pytest.fixture
def d() -> Direct:
    return Direct()


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (1, 7), (7, 7), (8, 16), (16, 16)])
def test_the_smallest_length_that_is_long_enough(d: Direct, asked: int, given: int) -> None:
    assert d.call("prctl", SET, asked << SHIFT, 0, 0, 0) == 0
    assert d.call("prctl", GET, 0, 0, 0, 0) == given << SHIFT
    assert d.t.hart.pmlen == given


@pytest.mark.parametrize(
    ("option", "rest"),
    [
        (SET, (17 << SHIFT, 0, 0, 0)),
        (SET, (2, 0, 0, 0)),
        (SET, (1 << 31, 0, 0, 0)),
        (SET, (ENABLE, 0, 0, 0)),  # calls would ignore nothing
        (SET, (7 << SHIFT, 1, 0, 0)),
        (GET, (1, 0, 0, 0)),
    ],
)
def test_what_is_refused(d: Direct, option: int, rest: tuple[int, ...]) -> None:
    assert d.call("prctl", option, *rest) == "EINVAL"


def test_calls_take_tagged_pointers_only_where_that_is_enabled(d: Direct) -> None:
    tagged = d.base | 0x2A << 57
    assert d.call("uname", tagged) == "EFAULT"
    d.call("prctl", SET, 7 << SHIFT, 0, 0, 0)
    assert d.call("uname", tagged) == "EFAULT"
    d.call("prctl", SET, 7 << SHIFT | ENABLE, 0, 0, 0)
    assert d.call("prctl", GET, 0, 0, 0, 0) == 7 << SHIFT | ENABLE
    assert d.call("uname", tagged) == 0
    assert d.get(d.base, 5) == b"Linux"
    assert d.call("mprotect", tagged, 0x1000, 1) == 0


def test_the_mode_is_fixed_once_an_address_space_is_shared(d: Direct) -> None:
    assert d.call("prctl", SET, 7 << SHIFT | ENABLE, 0, 0, 0) == 0
    arguments = (CLONE_VM_THREAD, d.base, 0, 0, 0, 0)
    d.t.call = InCall(d.k.seq(), 220, "clone", arguments, d.t.tid, d.t.mm_id, 0, 0, 0)
    assert isinstance(d.call("clone", *arguments), int)
    assert d.call("prctl", SET, 16 << SHIFT | ENABLE, 0, 0, 0) == "EBUSY"
    assert d.call("prctl", SET, 7 << SHIFT | ENABLE, 0, 0, 0) == 0
    child = d.k.tasks[max(d.k.tasks)]
    assert child.hart.pmlen == 7
