"""The vector state of tasks: signal frames, system calls, fork, exec, ptrace, prctl."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.arch import vectors
from shstk.tracer.kernel.arch.regsets import REGSETS
from shstk.tracer.kernel.arch.sigframe import LAYOUTS, frame_size
from shstk.tracer.kernel.errno import Errno

VILL = 1 << 63
SET, GET, INHERIT = 69, 70, 16
OFF, ON = 1, 2


def vsetivli(avl: int, vtype: int) -> str:
    return f".word {0xC0007057 | avl << 15 | vtype << 20:#x}"


def vmv_v_i(vd: int, value: int) -> str:
    return f".word {0x5E003057 | vd << 7 | value << 15:#x}"


def vmv_x_s(rd: int, vs2: int) -> str:
    return f".word {0x42002057 | rd << 7 | vs2 << 20:#x}"


def csrr(rd: int, number: int) -> str:
    return f".word {0x2073 | rd << 7 | number << 20:#x}"


E64 = 0x18
VL, VTYPE = 0xC20, 0xC21
S1, S2, S3 = 9, 18, 19

SIGNAL = f"""
    sys 134, 4, action, 0, 8
    mv s5, sp
    {vsetivli(2, E64)}
    {vmv_v_i(8, 5)}
    unimp
    {vmv_x_s(S1, 8)}
    {csrr(S2, VL)}
    report s1
    report s2
    {csrr(S3, VTYPE)}
    report s3
    report s4
    report s5
    sys 94, 0
handler:
    ld s4, 952(a2)
    sub s5, s5, sp
    {vmv_v_i(8, 9)}
    ld t1, 1000(a2)     # datap
    li t2, 7
    sd t2, 128(t1)      # v8's first element
    ld t3, 176(a2)
    addi t3, t3, 4
    sd t3, 176(a2)
    sd s4, 336(a2)      # s4 and s5 survive the return
    sd s5, 344(a2)
    ret
.align 8
action:
    .dword handler, 4, 0
"""


def test_a_signal_frame_carries_the_vectors() -> None:
    result = run(SIGNAL)
    changed, vl, vtype, head, size = result.words
    assert (changed, vl) == (7, 2)  # the handler's value in the frame, not that in v8
    assert vtype == VILL  # discarded by the call that reported the first word
    assert (head & 0xFFFFFFFF, head >> 32) == (0x53465457, 568)
    assert 1664 <= size < 1664 + 16


@pytest.mark.parametrize(
    ("sigframe", "enabled", "used", "size"),
    [
        ("ext", False, False, 1088),
        ("ext", True, False, 1120),
        ("ext", False, True, 1664),
        ("ext", True, True, 1680),
        ("fixed", True, True, 1680),
        ("bare", True, False, 1104),
        ("bare", True, True, 1680),
    ],
)
def test_frame_sizes(sigframe: str, enabled: bool, used: bool, size: int) -> None:
    assert frame_size(LAYOUTS[sigframe], enabled, used) == size


def test_a_child_starts_without() -> None:
    result = run(f"""
        {vsetivli(2, E64)}
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        sys 260, -1, 0, 0, 0
        {csrr(S1, VTYPE)}
        report s1
        sys 94, 0
    child:
        {csrr(S1, VTYPE)}
        {vmv_x_s(S2, 0)}
        report s1
        report s2
        sys 94, 0
    """)
    assert result.words == [0, 0, VILL]


@pytest.fixture
def d() -> Direct:
    return Direct()


def test_control(d: Direct) -> None:
    def control(option: int, value: int = 0) -> int | str:
        answer: int | str = d.call("prctl", option, value, 0, 0, 0)
        return answer

    assert control(GET) == ON
    assert control(SET, OFF) == "EPERM"
    assert [control(SET, bad) for bad in (3, 12, 32)] == ["EINVAL"] * 3
    assert control(SET, OFF << 2 | INHERIT) == 0
    assert control(GET) == ON | OFF << 2 | INHERIT
    vectors.start_program(d.t)
    assert (control(GET), d.t.hart.v_enabled) == (OFF | OFF << 2 | INHERIT, False)
    assert control(SET, ON) == 0
    assert d.t.hart.v_enabled
    vectors.start_program(d.t)
    assert (control(GET), d.t.hart.v_enabled) == (ON, True)


def test_a_new_program_starts_without(d: Direct) -> None:
    d.t.hart.set_v(3, b"\1" * 16)
    vectors.start_program(d.t)
    assert (d.t.hart.v_used, d.t.hart.v(3)) == (False, bytes(16))


def test_regset(d: Direct) -> None:
    regset, hart = REGSETS[0x901], d.t.hart
    with pytest.raises(Errno, match="ENODATA"):
        regset.get(d.t)
    hart.set_v(31, bytes(range(16)))
    hart.set_v_csrs(1, 4, 0xD0, 5)
    data = regset.get(d.t)
    assert data == struct.pack("<5Q", 1, 4, 0xD0, 5, 16) + bytes(31 * 16) + bytes(range(16))
    regset.set(d.t, struct.pack("<5Q", 0, 2, 0xD8, 0, 16) + b"\7" * 16)
    assert (hart.v_csrs(), hart.v(0), hart.v(1)) == ((0, 2, 0xD8, 0), b"\7" * 16, bytes(16))
    with pytest.raises(Errno, match="EINVAL"):
        regset.set(d.t, struct.pack("<5Q", 0, 2, 0xD8, 0, 32))
