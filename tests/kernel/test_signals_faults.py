"""Each bad access: the exception that the hart raises and the signal that Linux sends (F1-F7)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from guest_run import Result, run

SIGILL, SIGTRAP, SIGSEGV = 4, 5, 11
MAPERR, ACCERR, CPERR = 1, 2, 10
PC = "pc"

SETUP = """
    sys 134, 4, action, 0, 8
    sys 134, 5, action, 0, 8
    sys 134, 7, action, 0, 8
    sys 132, altstack, 0
    sys 134, 11, action, 0, 8
    sys 222, 0, 4096, 1, 0x22, -1, 0      # a read-only page
    mv s3, a0
    sys 222, 0, 4096, 0, 0x22, -1, 0      # one without any permission
    mv s4, a0
    li s2, page
"""
REST = """
    exit 0
handler:
    lw t1, 0(a1)
    report t1
    lw t1, 8(a1)
    report t1
    ld t1, 16(a1)
    report t1
    exit 9
    .align 8
action: .dword handler, 0x08000004, 0
altstack: .dword area, 0, 8192
area: .zero 8192
    .align 4096
page: .zero 4096
"""
# s0: ssp, with one word pushed; s5: the base of a shadow stack that was never accessed.
ENABLED = """
    enable
    sspush
    csrr_ssp s0
    sys 453, 0, 8192, 0
    mv s5, a0
"""
# The address of the faulting access, by the register that holds it.
AT = {"ssp": "s0", "ss": "s5", "rw": "s2", "ro": "s3", "none": "s4"}


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    signo: int
    si_code: int
    where: str  # PC, or the register that holds the data address
    cause: int
    enabled: bool = True


CASES = (
    Case("store_touched", "bad: sd zero, 0(s0)", SIGSEGV, ACCERR, PC, 7),
    Case("store_untouched", "bad: sd zero, 0(s5)", SIGSEGV, ACCERR, PC, 7),
    Case("store_byte", "bad: sb zero, 0(s0)", SIGSEGV, ACCERR, PC, 7),
    Case("amoadd", "bad: amoadd.d a0, a1, (s0)", SIGSEGV, ACCERR, PC, 7),
    Case("sc", "lr.d a0, (s0)\nbad: sc.d a0, a0, (s0)", SIGSEGV, ACCERR, PC, 7),
    Case("mismatch", "li ra, 5\nbad: sspopchk", SIGSEGV, CPERR, PC, 18),
    Case("mismatch_t0", "li t0, 5\nbad: c.sspopchk_t0", SIGSEGV, CPERR, PC, 18),
    Case("push_ssp0", "csrw_ssp zero\nli s0, -8\nbad: sspush", SIGSEGV, MAPERR, "s0", 15),
    Case("push_rw", "addi s0, s2, 8\ncsrw_ssp s0\nbad: sspush", SIGSEGV, ACCERR, PC, 7),
    Case("push_ro", "addi t1, s3, 8\ncsrw_ssp t1\nbad: sspush", SIGSEGV, ACCERR, "s3", 15),
    Case("push_none", "addi t1, s4, 8\ncsrw_ssp t1\nbad: sspush", SIGSEGV, ACCERR, "s4", 15),
    Case("pop_rw", "csrw_ssp s2\nbad: sspopchk", SIGSEGV, ACCERR, PC, 7),
    Case("pop_ro", "csrw_ssp s3\nbad: sspopchk", SIGSEGV, ACCERR, "s3", 15),
    Case("push_below", "csrw_ssp s5\naddi s0, s5, -8\nbad: sspush", SIGSEGV, MAPERR, "s0", 15),
    Case("swap_rw", "bad: ssamoswap.d a0, a1, (s2)", SIGSEGV, ACCERR, PC, 7),
    Case("swap_ro", "bad: ssamoswap.d a0, a1, (s3)", SIGSEGV, ACCERR, "s3", 15),
    Case(
        "swap_misaligned", "addi t1, s0, 1\nbad: ssamoswap.d a0, a1, (t1)", SIGSEGV, ACCERR, PC, 7
    ),
    Case("fetch_ss", "jr s0", SIGSEGV, ACCERR, "s0", 1),
    Case("fetch_ro", "jr s3", SIGSEGV, ACCERR, "s3", 12),
    Case("fetch_unmapped", "li s0, 0x100000\njr s0", SIGSEGV, MAPERR, "s0", 12),
    Case("load_none", "bad: ld a0, 0(s4)", SIGSEGV, ACCERR, "s4", 13),
    Case("load_unmapped", "li s0, 0x100008\nbad: ld a0, 0(s0)", SIGSEGV, MAPERR, "s0", 13),
    Case("store_ro", "bad: sd a0, 0(s3)", SIGSEGV, ACCERR, "s3", 15),
    Case("read_ssp_off", "bad: csrr_ssp a0", SIGILL, 1, PC, 2, enabled=False),
    Case("write_ssp_off", "bad: csrw_ssp a0", SIGILL, 1, PC, 2, enabled=False),
    Case("swap_off", "bad: ssamoswap.d a0, a1, (s2)", SIGILL, 1, PC, 2, enabled=False),
    Case("illegal", "bad: unimp", SIGILL, 1, PC, 2, enabled=False),
    Case("ebreak", "bad: ebreak", SIGTRAP, 1, PC, 3, enabled=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_fault(case: Case) -> None:
    where = "" if case.where == PC else f"report {case.where}"
    # If ssp is not on a shadow stack, no handler can be entered: then check the fatal signal.
    result = run(SETUP + ENABLED * case.enabled + expose(case.code, where) + REST)
    expected = result.labels["bad"] if case.where == PC else result.words[0]
    [fault] = result.rows("faults")
    assert fault["cause"] == case.cause
    assert (fault["signo"], fault["code"], fault["si_addr"]) == (
        case.signo,
        case.si_code,
        expected,
    )
    assert fault["pc"] == (result.labels["bad"] if "bad:" in case.code else expected)
    if result.status == 9 << 8:
        assert result.words[-3:] == [case.signo, case.si_code, expected]
    else:
        assert result.status == SIGSEGV
        assert "csrw_ssp" in case.code


def expose(code: str, report: str) -> str:
    """Insert the report before the last line, the faulting instruction."""
    *before, last = code.splitlines()
    return "\n".join((*before, report, last))


def test_landing_pads() -> None:
    code = """
        prctl 81, 0, 1, 0, 0
        li s0, bad
        li t2, 0x5000
        li s1, {label}
        jr s0
        bad: {pad}
    """
    for pad in ("nop", "lpad 6"):
        result: Result = run(SETUP + code.format(label=5, pad=pad) + REST)
        fault, _at_the_handler = result.rows("faults")
        assert (fault["cause"], fault["tval"], fault["code"]) == (18, 2, CPERR)
        assert fault["si_addr"] == fault["pc"] == result.labels["bad"]
        assert fault["expected"] == 5
    assert run(SETUP + code.format(label=5, pad="lpad 5") + REST).status == 0


def test_a_mismatch_says_what_was_expected_and_found() -> None:
    result = run(SETUP + ENABLED + "li ra, 5\nbad: sspopchk" + REST)
    [fault] = result.rows("faults")
    assert (fault["tval"], fault["expected"], fault["found"]) == (3, 0, 5)
    assert fault["address"] == result.rows("signals")[0]["ssp_before"]
    assert fault["word"] == 0xCDC0C073


def test_loads_and_lr_from_a_shadow_stack() -> None:
    assert run(SETUP + ENABLED + "ld a0, 0(s0)\nlr.d a0, (s0)\nlb a0, 0(s5)" + REST).status == 0


def test_a_store_while_not_enabled() -> None:
    """Loads work and stores are access faults, even on pages accessed before."""
    code = "prctl 75, 0, 0, 0, 0\nld a0, 0(s5)\nbad: sd a0, 0(s5)"
    result = run(SETUP + ENABLED + code + REST)
    assert result.words == [SIGSEGV, ACCERR, result.labels["bad"]]


def test_off_is_a_nop() -> None:
    result = run(SETUP + "sspush\nli ra, 9\nsspopchk\nli s0, 7\nssrdp s0\nreport s0" + REST)
    assert result.status == 0
    assert result.words == [0]


def test_the_stack_grows_without_a_fault() -> None:
    code = "li t1, -1000000\nadd t1, sp, t1\nsd t1, 0(t1)"
    result = run(SETUP + code + REST)
    assert result.status == 0
    assert result.rows("faults") == []


def test_below_the_stack_limit_is_maperr() -> None:
    code = "li t1, -9000000\nadd t1, sp, t1\nreport t1\nbad: sd t1, 0(t1)"
    result = run(SETUP + code + REST)
    assert result.words[1:] == [SIGSEGV, MAPERR, result.words[0]]


def test_out_of_memory_is_sigkill() -> None:
    code = """
        sys 222, 0, 0x8000000, 3, 0x4022, -1, 0
        li t1, 4096
        loop: sd a0, 0(a0)
        add a0, a0, t1
        j loop
    """
    result = run(SETUP + code + REST, memory=16 << 20)
    assert result.status == 9
    [fatal] = result.rows("signals")
    assert (fatal["signo"], fatal["code"]) == (9, 0x80)
