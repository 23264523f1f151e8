"""Zicbom, Zicboz, Zicbop, Zihintpause, Zihintntl, Zawrs, as in user mode on Linux."""

import pytest
from guest import DATA, ECALL, STACK, TEXT, Guest, R, W, X, addi, i_type, jal, r_type

from shstk.tracer import _core

CBO_INVAL, CBO_CLEAN, CBO_FLUSH, CBO_ZERO = (i_type(0x200F, 0, 11, n) for n in (0, 1, 2, 4))
MANAGEMENT = [CBO_CLEAN, CBO_FLUSH]


@pytest.mark.parametrize("offset", [0, 1, 63, 64, 100, 0xFC0, 0xFFF])
def test_zero_clears_the_64_bytes_around_the_address(offset: int) -> None:
    guest = Guest([CBO_ZERO, ECALL], x={11: DATA + offset})
    guest.space.write(DATA, b"\xee" * 0x2000)
    guest.run_to_ecall()
    expected = bytearray(b"\xee" * 0x2000)
    start = offset // 64 * 64
    expected[start : start + 64] = bytes(64)
    assert guest.space.read(DATA, 0x2000) == bytes(expected)


def test_zero_after_a_fork_is_the_forkers_own() -> None:
    guest = Guest([CBO_ZERO, ECALL], x={11: DATA})
    guest.space.write(DATA, b"\xee" * 64)
    child = guest.space.fork()
    guest.run_to_ecall()
    assert guest.space.read(DATA, 64) == bytes(64)
    assert child.read(DATA, 64) == b"\xee" * 64


def test_zeroed_text_is_decoded_again() -> None:
    guest = Guest([CBO_ZERO, addi(10, 10, 1), ECALL], x={11: TEXT + 1})
    guest.space.protect(TEXT, 0x1000, R | W | X)
    assert guest.fault()[:2] == (2, 0)
    assert (guest.hart.pc, guest.hart.x(10)) == (TEXT + 4, 0)


PLACES = [
    (TEXT + 0x100, 15, None),  # R X
    (0x90021, 15, 15),  # unmapped
    (STACK + 9, 7, 7),
    (1 << 60, 15, 15),
]


@pytest.mark.parametrize(("at", "zero", "management"), PLACES)
def test_faults_are_store_faults_at_the_register_s_address(
    at: int, zero: int, management: int | None
) -> None:
    assert Guest([CBO_ZERO], x={11: at}).fault() == (zero, at, CBO_ZERO, at, 0, 0)
    for word in MANAGEMENT:
        guest = Guest([word, ECALL], x={11: at})
        if management is None:
            guest.run_to_ecall()
        else:
            assert guest.fault() == (management, at, word, at, 0, 0)


@pytest.mark.parametrize("word", MANAGEMENT)
def test_management_needs_a_load_or_a_store_to_be_allowed(word: int) -> None:
    for perm, cause in ((R, None), (W, None), (R | W, None), (X, 15), (0, 15)):
        guest = Guest([word, ECALL], x={11: DATA + 5})
        guest.space.write(DATA, b"\xee" * 64)
        guest.space.protect(DATA, 0x1000, perm)
        if cause is None:
            guest.run_to_ecall()
            assert guest.space.read(DATA, 64, force=True) == b"\xee" * 64
        else:
            assert guest.fault()[:2] == (cause, DATA + 5)


def test_a_shadow_stack_that_lost_its_write_permission_is_a_read_only_page() -> None:
    for word, cause in ((CBO_ZERO, 15), (CBO_CLEAN, None)):
        guest = Guest([word, ECALL], x={11: STACK})
        guest.space.protect(STACK, 0x1000, R | _core.PERM_SS)
        if cause is None:
            guest.run_to_ecall()
        else:
            assert guest.fault()[:2] == (cause, STACK)


def test_invalidation_is_illegal_in_user_mode() -> None:
    assert Guest([CBO_INVAL], x={11: DATA}).fault() == (2, CBO_INVAL, CBO_INVAL, 0, 0, 0)


@pytest.mark.parametrize("word", [CBO_ZERO | 1 << 7, i_type(0x200F, 0, 11, 3), CBO_ZERO | 1 << 27])
def test_other_words_of_their_opcode_are_illegal(word: int) -> None:
    assert Guest([word], x={11: DATA}).fault()[:2] == (2, word)


def test_the_insn_row_of_zero_is_a_store_of_64_bytes() -> None:
    guest = Guest([CBO_ZERO, CBO_CLEAN, ECALL], x={11: DATA + 65}, trace=_core.TRACE_INSN)
    guest.run_to_ecall()
    zero, clean, _ = guest.rows("insn")
    columns = ("rd", "mem_addr", "mem_value", "mem_size")
    assert [zero[c] for c in columns] == [255, DATA + 64, 0, 64]
    assert [clean[c] for c in columns] == [255, 0, 0, 0]


def test_no_frame_for_a_block_to_zero() -> None:
    guest = Guest([CBO_ZERO], x={11: DATA + 3}, max_frames=1)
    assert guest.fault()[:2] == (_core.FAULT_NO_FRAME, DATA + 3)


HINTS = {
    "pause": 0x0100000F,
    "ntl.p1": 0x00200033,
    "ntl.pall": 0x00300033,
    "ntl.s1": 0x00400033,
    "ntl.all": 0x00500033,
    "c.ntl.p1": 0x900A,
    "c.ntl.pall": 0x900E,
    "c.ntl.s1": 0x9012,
    "c.ntl.all": 0x9016,
    "prefetch.i": i_type(0x6013, 0, 11, 0x020),
    "prefetch.r": i_type(0x6013, 0, 11, 0x021),
    "prefetch.w": i_type(0x6013, 0, 11, 0xFE3 - 0x1000),
    "wrs.nto": 0x00D00073,
    "wrs.sto": 0x01D00073,
}


@pytest.mark.parametrize("name", HINTS)
def test_hints_do_nothing_and_never_fault(name: str) -> None:
    x = {i: 0x90000 + 8 * i for i in range(1, 32)}  # unmapped
    guest = Guest([HINTS[name], HINTS[name], ECALL], x=x, trace=_core.TRACE_INSN).run_to_ecall()
    assert guest.hart.regs() == [0, *x.values()]
    assert guest.machine.icount == 3
    assert [row["rd"] for row in guest.rows("insn")] == [255, 255, 255]


def test_waiting_for_a_reservation_set_keeps_it() -> None:
    lr, sc = r_type(0x1000302F, 10, 11), r_type(0x1800302F, 13, 11, 12)
    guest = Guest([lr, HINTS["wrs.nto"], sc, ECALL], x={11: DATA, 12: 9}).run_to_ecall()
    assert (guest.hart.x(13), guest.word(DATA)) == (0, 9)


def test_a_loop_around_wrs_ends_with_its_budget() -> None:
    guest = Guest([HINTS["wrs.nto"], jal(0, -4)])
    assert guest.run(1000) == _core.STOP_BUDGET
    assert guest.machine.icount == 1000


@pytest.mark.parametrize("number", [0xC03, 0xC1F, 0xC83])
def test_hpm_counters_are_the_kernels(number: int) -> None:
    word = i_type(0x2073, 10, 0, number)
    assert Guest([word]).fault()[:2] == (2, word)
