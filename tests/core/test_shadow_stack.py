"""Zicfiss: the instructions, their behaviour when off, the faults by page type, the cfi rows."""

import pytest
from guest import (
    C_SSPOPCHK_T0,
    C_SSPUSH_RA,
    DATA,
    ECALL,
    MASK,
    SS,
    SSP,
    SSPOPCHK_RA,
    SSPOPCHK_T0,
    SSPUSH_RA,
    SSPUSH_T0,
    STACK,
    STACK_END,
    TEXT,
    Guest,
    R,
    W,
    X,
    addi,
    csr,
    i_type,
    r_type,
    s_type,
    ssamoswap_d,
    ssamoswap_w,
    ssrdp,
)

from shstk.tracer import _core

CFI = _core.TRACE_CFI
SSPUSH, SSPOPCHK, SSAMOSWAP, SSRDP, SSP_READ, SSP_WRITE = range(6)
NONE = 255
UNMAPPED = 0x90000


def guest(*words: int, sse: bool = True, **options: object) -> Guest:
    return Guest([*words, ECALL], sse=sse, trace=CFI, **options)  # type: ignore[arg-type]


def cfi_rows(guest: Guest) -> list[tuple[int, ...]]:
    """(kind, pc - TEXT, addr, value, operand, ssp_before, ssp_after, fault) of each row."""
    rows = guest.rows("cfi")
    assert all((row["tid"], row["mm"]) == (1, 1) for row in rows)
    names = ("kind", "pc", "addr", "value", "operand", "ssp_before", "ssp_after", "fault")
    return [tuple(row[n] - (TEXT if n == "pc" else 0) for n in names) for row in rows]


@pytest.mark.parametrize(
    ("push", "pop", "register"),
    [
        (SSPUSH_RA, SSPOPCHK_RA, 1),
        (SSPUSH_T0, SSPOPCHK_T0, 5),
        (C_SSPUSH_RA, SSPOPCHK_RA, 1),
        (SSPUSH_T0, C_SSPOPCHK_T0, 5),
    ],
)
def test_push_then_pop(push: int, pop: int, register: int) -> None:
    g = guest(push, pop, x={1: 0x111, 5: 0x555}).run_to_ecall()
    value = {1: 0x111, 5: 0x555}[register]
    slot = STACK_END - 8
    assert g.word(slot) == value
    assert g.hart.ssp == STACK_END
    pop_at = 4 if push & 3 == 3 else 2
    assert cfi_rows(g) == [
        (SSPUSH, 0, slot, value, 0, STACK_END, slot, NONE),
        (SSPOPCHK, pop_at, slot, value, value, slot, STACK_END, NONE),
    ]


def test_gcc_pops_into_t0_what_was_pushed_from_ra() -> None:
    g = guest(C_SSPUSH_RA, addi(5, 1, 0), C_SSPOPCHK_T0, x={1: 0x1234}).run_to_ecall()
    assert g.hart.ssp == STACK_END


def test_mismatch_is_a_software_check_that_leaves_ssp() -> None:
    g = guest(SSPUSH_RA, addi(1, 1, 1), SSPOPCHK_RA, x={1: 0x1000})
    slot = STACK_END - 8
    assert g.fault() == (18, 3, SSPOPCHK_RA, slot, 0x1000, 0x1001)
    assert (g.hart.pc, g.hart.ssp, g.machine.icount) == (TEXT + 8, slot, 3)
    assert cfi_rows(g)[1] == (SSPOPCHK, 8, slot, 0x1000, 0x1001, slot, slot, 18)


def test_ssrdp() -> None:
    g = guest(ssrdp(10), ssrdp(0)).run_to_ecall()
    assert g.hart.x(10) == STACK_END
    assert cfi_rows(g) == [(SSRDP, 0, 0, STACK_END, 0, STACK_END, STACK_END, NONE)]


def test_ssamoswap_d() -> None:
    slot = STACK_END - 16
    g = guest(ssamoswap_d(10, 11, 12), x={11: slot, 12: MASK - 1})
    assert g.space.ss_write(slot, 0x8000000000000000)
    g.run_to_ecall()
    assert (g.hart.x(10), g.word(slot)) == (1 << 63, MASK - 1)
    assert cfi_rows(g) == [(SSAMOSWAP, 0, slot, MASK - 1, 1 << 63, STACK_END, STACK_END, NONE)]


@pytest.mark.parametrize("ordering", [0, 1 << 25, 1 << 26, 3 << 25])
def test_ssamoswap_w_sign_extends_and_stores_the_low_half(ordering: int) -> None:
    slot = STACK_END - 12
    g = guest(ssamoswap_w(10, 11, 12) | ordering, x={11: slot, 12: 0xAAAAAAAA_12345678})
    g.space.ss_write(slot - 4, 0x80000000_11111111)
    g.run_to_ecall()
    assert (g.hart.x(10), g.word(slot - 4)) == (MASK - 0x7FFFFFFF, 0x12345678_11111111)
    assert cfi_rows(g)[0][3:5] == (0x12345678, 0x80000000)


def test_ssp_csr() -> None:
    words = [csr(2, 10, SSP, 0), csr(1, 11, SSP, 12), csr(7, 13, SSP, 8), csr(5, 0, SSP, 31)]
    g = guest(*words, x={12: STACK + 0x107}).run_to_ecall()
    assert (g.hart.x(10), g.hart.x(11), g.hart.x(13)) == (STACK_END, STACK_END, STACK + 0x100)
    assert g.hart.ssp == 24  # bits 2:0 are read-only zero
    assert cfi_rows(g) == [
        (SSP_READ, 0, 0, STACK_END, 0, STACK_END, STACK_END, NONE),
        (SSP_WRITE, 4, 0, STACK + 0x100, 0, STACK_END, STACK + 0x100, NONE),
        (SSP_WRITE, 8, 0, STACK + 0x100, 0, STACK + 0x100, STACK + 0x100, NONE),
        (SSP_WRITE, 12, 0, 24, 0, STACK + 0x100, 24, NONE),
    ]


def test_csrrs_with_a_zero_register_still_writes_and_with_x0_reads() -> None:
    g = guest(csr(2, 0, SSP, 11), csr(2, 0, SSP, 0), csr(6, 0, SSP, 0)).run_to_ecall()
    assert [row[0] for row in cfi_rows(g)] == [SSP_WRITE, SSP_READ, SSP_READ]


NO_OPS = [SSPUSH_RA, SSPUSH_T0, SSPOPCHK_RA, SSPOPCHK_T0, C_SSPUSH_RA, C_SSPOPCHK_T0]


@pytest.mark.parametrize("without", [(), ("zicfiss",)], ids=["xSSE=0", "absent"])
@pytest.mark.parametrize("word", NO_OPS)
def test_off_pushes_and_pops_do_nothing(word: int, without: tuple[str, ...]) -> None:
    g = guest(word, sse=False, without=without, x={1: 7, 5: 9})
    g.space.ss_write(STACK_END - 8, 0x55)
    g.run_to_ecall()
    assert (g.hart.ssp, g.word(STACK_END - 8)) == (STACK_END, 0x55)
    assert (g.hart.x(1), g.hart.x(5)) == (7, 9)
    assert cfi_rows(g) == []


@pytest.mark.parametrize("without", [(), ("zicfiss",)], ids=["xSSE=0", "absent"])
def test_off_ssrdp_writes_zero(without: tuple[str, ...]) -> None:
    g = guest(ssrdp(10), sse=False, without=without, x={10: 7}).run_to_ecall()
    assert (g.hart.x(10), cfi_rows(g)) == (0, [])


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (ssamoswap_d(10, 11, 12), SSAMOSWAP),
        (ssamoswap_w(10, 11, 12), SSAMOSWAP),
        (csr(2, 10, SSP, 0), SSP_READ),
        (csr(1, 10, SSP, 12), SSP_WRITE),
    ],
)
def test_off_ssamoswap_and_the_csr_are_illegal(word: int, kind: int) -> None:
    g = guest(word, sse=False, x={11: STACK})
    assert g.fault() == (2, word, word, 0, 0, 0)
    addr = STACK if kind == SSAMOSWAP else 0
    assert cfi_rows(g) == [(kind, 0, addr, 0, 0, STACK_END, STACK_END, 2)]
    absent = guest(word, sse=True, without=["zicfiss"], x={11: STACK})
    assert absent.fault() == (2, word, word, 0, 0, 0)
    assert cfi_rows(absent) == []


@pytest.mark.parametrize("sse", [True, False])
@pytest.mark.parametrize(
    "word",
    [
        0xCE10C073,  # mop.rr.7 with rs1 != 0
        0xCE104573,  # mop.rr.7 a0, x0, ra
        0xCE204073,  # mop.rr.7 x0, x0, x2
        0xCDC0C573,  # mop.r.28 a0, ra
        0xCDC14073,  # mop.r.28 x0, x2
        0x81C04573,  # mop.r.0 a0
        0xCDD04573,  # mop.r.29 a0
        0x82004573,  # mop.rr.0 a0
        0xCA004573,  # mop.rr.5 a0
    ],
)
def test_other_may_be_operations_write_zero(word: int, sse: bool) -> None:
    g = guest(word, sse=sse, x={1: 1, 2: 2, 10: 7}).run_to_ecall()
    rd = word >> 7 & 31
    assert g.hart.x(10) == (0 if rd == 10 else 7)
    assert (g.hart.ssp, cfi_rows(g)) == (STACK_END, [])


@pytest.mark.parametrize("n", [3, 7, 9, 11, 13, 15])
def test_other_compressed_may_be_operations_write_nothing(n: int) -> None:
    g = guest(0x6081 | (n // 2) << 8, x={n: 7}).run_to_ecall()
    assert (g.hart.x(n), g.hart.ssp, cfi_rows(g)) == (7, STACK_END, [])


# The pages of the fault table: permissions, or None for unmapped.
PAGES = {
    "shadow-stack": R | W | SS,
    "write-only shadow-stack": W | SS,
    "protected shadow-stack": R | SS,
    "read-only": R,
    "text": R | X,
    "ordinary": R | W,
    "no access": 0,
    "unmapped": None,
}
SHADOW = {
    "shadow-stack": None,
    "write-only shadow-stack": None,
    "protected shadow-stack": 15,
    "read-only": 15,
    "text": 15,
    "ordinary": 7,
    "no access": 15,
    "unmapped": 15,
}
STORE = SHADOW | {"shadow-stack": 7, "write-only shadow-stack": 7, "ordinary": None}
LOAD = dict.fromkeys(PAGES) | {"no access": 13, "unmapped": 13}
FETCH = dict.fromkeys(PAGES, 12) | {
    "shadow-stack": 1,
    "write-only shadow-stack": 1,
    "text": None,
}
# name: (word with base a1 and ssp at the page's word, expected cause by page)
ACCESSES = {
    "sspush": (SSPUSH_RA, SHADOW),
    "sspopchk": (SSPOPCHK_RA, SHADOW),
    "ssamoswap.w": (ssamoswap_w(10, 11, 12), SHADOW),
    "ssamoswap.d": (ssamoswap_d(10, 11, 12), SHADOW),
    "sb": (s_type(0x23, 11, 12), STORE),
    "sd": (s_type(0x3023, 11, 12), STORE),
    "fsd": (s_type(0x3027, 11, 12), STORE),
    "amoadd.d": (r_type(0x0000302F, 10, 11, 12), STORE),
    "sc.d": (r_type(0x1800302F, 10, 11, 12), STORE),
    "lb": (i_type(0x03, 10, 11), LOAD),
    "ld": (i_type(0x3003, 10, 11), LOAD),
    "fld": (i_type(0x3007, 10, 11), LOAD),
    "lr.d": (r_type(0x1000302F, 10, 11), LOAD),
}


def page_guest(page: str, word: int) -> tuple[Guest, int]:
    """A guest whose a1 and ssp point into a page of that kind."""
    perm = PAGES[page]
    at = 0x80800
    g = guest(word, x={1: 0, 11: at, 12: 5})
    if perm is not None:
        g.space.map(0x80000, 0x1000, perm)
    g.hart.ssp = at + 8 if word == SSPUSH_RA else at
    return g, at


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("access", ACCESSES)
def test_fault_table(access: str, page: str) -> None:
    word, expected = ACCESSES[access]
    g, at = page_guest(page, word)
    cause = expected[page]
    ssp = g.hart.ssp
    if cause is None:
        g.run_to_ecall()
        return
    assert g.fault() == (cause, at, word, at, 0, 0)
    assert (g.hart.pc, g.hart.ssp) == (TEXT, ssp)
    rows = cfi_rows(g)
    assert [row[-1] for row in rows] == ([cause] if access.startswith("ss") else [])
    assert all(row[5] == row[6] == ssp and row[2] == at for row in rows)


@pytest.mark.parametrize("page", PAGES)
def test_fault_table_fetch(page: str) -> None:
    g, at = page_guest(page, ECALL)
    g.space.write(at, b"\x73\0\0\0", force=True)
    g.hart.pc = at
    cause = FETCH[page]
    if cause is None:
        g.run_to_ecall()
    else:
        assert g.fault() == (cause, at, 0, at, 0, 0)
        assert (g.hart.pc, g.machine.icount) == (at, 1)


def test_memory_faults_outrank_the_software_check() -> None:
    g = guest(SSPOPCHK_RA, x={1: 0xBAD})
    g.hart.ssp = DATA
    assert g.fault()[:2] == (7, DATA)


@pytest.mark.parametrize("word", [ssamoswap_d(10, 11, 12), ssamoswap_w(10, 11, 12)])
@pytest.mark.parametrize(("at", "cause"), [(STACK + 2, 7), (UNMAPPED + 2, 15)])
def test_misaligned_ssamoswap_is_an_access_fault_below_page_faults(
    word: int, at: int, cause: int
) -> None:
    assert guest(word, x={11: at}).fault() == (cause, at, word, at, 0, 0)


def test_a_push_below_the_stack_moves_nothing() -> None:
    g = guest(SSPUSH_RA, x={1: 9})
    g.hart.ssp = STACK
    assert g.fault() == (15, STACK - 8, SSPUSH_RA, STACK - 8, 0, 0)
    assert g.hart.ssp == STACK
    assert cfi_rows(g) == [(SSPUSH, 0, STACK - 8, 9, 0, STACK, STACK, 15)]


def test_setting_ssp_from_outside_clears_its_low_bits() -> None:
    g = guest()
    g.hart.ssp = STACK + 15
    assert g.hart.ssp == STACK + 8


@pytest.mark.parametrize("page", ["ordinary", "shadow-stack"])
def test_a_page_is_filled_in_before_an_access_to_the_wrong_kind_fails(page: str) -> None:
    g, _ = page_guest(page, s_type(0x3023, 11, 12) if page == "shadow-stack" else SSPUSH_RA)
    assert g.space.resident(0x80000, 0x1000) == 0
    assert g.fault()[0] == 7
    assert g.space.resident(0x80000, 0x1000) == 1
