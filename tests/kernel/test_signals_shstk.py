"""Signals and the shadow stack: the token, what sigreturn accepts and rejects (G1 to G5)."""

from __future__ import annotations

import pytest
from guest_run import run

SIGSEGV, SIGUSR1, SIGUSR2 = 11, 10, 12
SI_KERNEL, SEGV_CPERR = 0x80, 10
SA_SIGINFO, SA_ONSTACK = 4, 0x0800_0000

# Sends itself SIGUSR1, then reports ssp and exits with 3.
RAISE = """
    sys 172
    li a1, 10
    sys 129
"""
START = f"""
    enable
    sys 134, 10, on_usr1, 0, 8
    sspush
    {RAISE}
    csrr_ssp s0
    report s0
    exit 3
"""


def guest(handler: str, before: str = START, data: str = "") -> str:
    return f"""{before}
usr1:
    {handler}
    ret
    .align 8
on_usr1:
    .dword usr1, 4, 0
{data}
"""


REPORT_FRAME = """
    csrr_ssp s2
    report s2
    ld s3, 0(s2)
    report s3
    ld s4, {offset}(a2)
    report s4
"""


@pytest.mark.parametrize(
    ("kernel", "ss_ptr_at"), [("7.2", 960), ("v5", 960), ("v4", 960), ("v3", 432)]
)
def test_a_token_is_pushed_and_taken_back(kernel: str, ss_ptr_at: int) -> None:
    result = run(guest(REPORT_FRAME.format(offset=ss_ptr_at)), kernel)
    in_handler, token, ss_ptr, after = result.words
    assert result.status == 3 << 8
    assert (token, ss_ptr, after) == (in_handler + 8, in_handler, in_handler + 8)

    delivery, sigreturn = result.rows("signals")
    assert delivery["kind"] == "delivery"
    assert (delivery["signo"], delivery["code"], delivery["sender"]) == (10, 0, result.pid)
    assert (delivery["ssp_before"], delivery["ssp_after"]) == (after, in_handler)
    assert (delivery["token_addr"], delivery["token_value"]) == (in_handler, after)
    assert delivery["ss_ptr"] == in_handler
    assert delivery["alt_stack"] is False
    assert sigreturn["kind"] == "sigreturn"
    assert sigreturn["frame"] == delivery["frame"]
    assert (sigreturn["ssp_before"], sigreturn["ssp_after"]) == (in_handler, after)
    assert (sigreturn["token_addr"], sigreturn["token_value"]) == (in_handler, after)
    [call] = [c for c in result.rows("syscalls") if c["name"] == "rt_sigreturn"]
    assert sigreturn["sigreturn_seq"] == call["seq"]

    [swap] = [m for m in result.rows("kernel_memory") if m["op"] == "swap"]
    assert swap["addr"] == in_handler
    assert swap["bytes"] == after.to_bytes(8, "little") + bytes(8)
    assert swap["during"] == call["seq"]


@pytest.mark.parametrize("kernel", ["v1", "7.2,signal_ssp=kept"])
def test_v1_stores_the_token_and_keeps_ssp(kernel: str) -> None:
    """v1 23/28: no set_active_shstk in save_user_shstk, so a handler's first push kills."""
    quiet = run(guest("csrr_ssp s2\nreport s2"), kernel)
    assert quiet.status == 3 << 8
    delivery, sigreturn = quiet.rows("signals")
    assert delivery["ssp_before"] == delivery["ssp_after"] == delivery["token_addr"] + 8
    assert sigreturn["ssp_after"] == sigreturn["token_value"] == delivery["ssp_before"]
    pushes = run(guest("sspush\ncsrr_ssp s2\nld s3, 0(s2)\nreport s3"), kernel)
    assert pushes.status == SIGSEGV
    [swap] = [m for m in pushes.rows("kernel_memory") if m["op"] == "swap"]
    assert int.from_bytes(swap["bytes"][:8], "little") == pushes.words[0]


@pytest.mark.parametrize(("kernel", "reserved"), [("v3", 964), ("v4", 948)])
def test_the_reserved_word_is_looked_at_before_the_token(kernel: str, reserved: int) -> None:
    """v3 23/29 restores the shadow stack last of all; v4 23/30 behind the reserved word."""
    result = run(guest(f"li s2, 1\nsw s2, {reserved}(a2)"), kernel)
    assert result.status == SIGSEGV
    assert not [m for m in result.rows("kernel_memory") if m["op"] == "swap"]


@pytest.mark.parametrize(("kernel", "taken"), [("v3", 0), ("v4", 1), ("v5", 0)])
def test_an_unknown_extension_comes_before_or_after_the_token(kernel: str, taken: int) -> None:
    at = {"v3": 968, "v4": 952, "v5": 952}[kernel]
    result = run(guest(f"li s2, 0x1234\nsw s2, {at}(a2)"), kernel)
    assert result.status == SIGSEGV
    assert len([m for m in result.rows("kernel_memory") if m["op"] == "swap"]) == taken


def test_a_frame_without_a_shadow_stack_has_no_header() -> None:
    start = f"sys 134, 10, on_usr1, 0, 8\n{RAISE}\nexit 3"
    result = run(guest("ld s2, 952(a2)\nreport s2\nsub s3, a2, sp\nreport s3", start))
    assert result.words == [0, 128]
    assert result.status == 3 << 8
    delivery, _ = result.rows("signals")
    assert delivery["ss_ptr"] is delivery["token_addr"] is None


def test_the_handler_may_return_by_t0() -> None:
    """gcc's epilogue pops into t0: sspush ra in the handler, sspopchk t0 at its end."""
    handler = "sub s2, t0, ra\nreport s2\nsspush\nsspopchk_t0"
    result = run(guest(handler))
    assert result.words[0] == 0
    assert result.status == 3 << 8


REFUSED = {
    "ss_ptr_plus_8": "ld t1, 960(a2)\naddi t1, t1, 8\nsd t1, 960(a2)",
    "ss_ptr_to_rw_page": "li t1, page\nsd t1, 960(a2)",
    "ss_ptr_misaligned": "ld t1, 960(a2)\naddi t1, t1, 4\nsd t1, 960(a2)",
    "token_zeroed": "csrr_ssp t1\nssamoswap.d zero, zero, (t1)",
    "disabled_in_handler": "prctl 75, 0, 0, 0, 0",
    "unknown_magic": "li t1, 0x1234\nsw t1, 952(a2)",
    "wrong_size": "li t1, 24\nsw t1, 956(a2)",
    "reserved_word": "li t1, 1\nsw t1, 948(a2)",
    "frame_unmapped": "li sp, 0x100000",
    "frame_at_the_end": "li sp, -1",
}


@pytest.mark.parametrize("handler", REFUSED.values(), ids=REFUSED)
def test_sigreturn_refuses(handler: str) -> None:
    result = run(guest(handler, data="page: .zero 16"))
    assert result.status == SIGSEGV
    _, sigreturn, fatal = result.rows("signals")
    assert sigreturn["ssp_after"] == sigreturn["ssp_before"]
    assert (fatal["kind"], fatal["signo"], fatal["code"]) == ("fatal", SIGSEGV, SI_KERNEL)
    assert fatal["sender"] is None


def test_a_refused_token_is_used_up() -> None:
    result = run(guest("ld t1, 960(a2)\naddi t1, t1, 8\nsd t1, 960(a2)"))
    delivery, sigreturn, _ = result.rows("signals")
    [swap] = [m for m in result.rows("kernel_memory") if m["op"] == "swap"]
    assert swap["addr"] == delivery["token_addr"] + 8 == sigreturn["token_addr"]
    assert swap["bytes"][8:] == bytes(8)


def test_sigreturn_accepts_a_forged_token() -> None:
    forge = """
        csrr_ssp t1
        addi t1, t1, -64
        addi t2, t1, 8
        ssamoswap.d zero, t2, (t1)
        sd t1, 960(a2)
    """
    result = run(guest(forge))
    delivery, sigreturn = result.rows("signals")
    assert result.status == 3 << 8
    assert sigreturn["ssp_after"] == delivery["ssp_after"] - 56 == result.words[0]


def test_sigreturn_without_a_header_leaves_ssp() -> None:
    result = run(guest("sd zero, 952(a2)"))
    delivery, sigreturn = result.rows("signals")
    assert result.status == 3 << 8
    assert sigreturn["ss_ptr"] is None
    assert result.words == [delivery["ssp_after"]]


def test_the_fixed_field_is_always_restored() -> None:
    """v3 ignores the bytes of the same handler and reads the fixed field."""
    result = run(guest("sd zero, 432(a2)"), "v3")
    assert result.status == SIGSEGV


def test_a_header_while_not_enabled_is_refused() -> None:
    start = f"sys 134, 10, on_usr1, 0, 8\n{RAISE}\nexit 3"
    result = run(guest("li t1, 0x1000009487\nsd t1, 952(a2)\nsd zero, 968(a2)", start))
    assert result.status == SIGSEGV


def test_what_was_restored_before_the_failure_stays() -> None:
    """The frame of the SIGSEGV handler has the registers of the code that SIGUSR1 interrupted."""
    start = f"""
        enable
        sys 134, 10, on_usr1, 0, 8
        sys 134, 11, on_segv, 0, 8
        li s5, 77
        {RAISE}
        exit 3
    """
    segv = """
    on_segv: .dword segv, 4, 0
    segv:
        lw s2, 8(a1)
        report s2
        ld s3, 344(a2)
        report s3
        exit 5
    """
    result = run(guest("li s5, 1\nsw s5, 948(a2)", start, segv))
    assert result.words == [SI_KERNEL, 77]
    assert result.status == 5 << 8


def test_an_alternate_stack_does_not_switch_the_shadow_stack() -> None:
    start = f"""
        enable
        sys 132, stack, 0
        sys 134, 10, on_usr1, 0, 8
        {RAISE}
        li a0, 0
        sys 132, 0, old
        li s0, old
        lw s1, 8(s0)
        report s1
        exit 3
    """
    data = """
    stack: .dword area, 0, 8192
    old: .zero 24
    area: .zero 8192
    """
    text = guest("mv s2, sp\nreport s2", start, data).replace(
        "usr1, 4, 0", f"usr1, {SA_SIGINFO | SA_ONSTACK}, 0"
    )
    result = run(text)
    delivery, sigreturn = result.rows("signals")
    area = result.labels["area"]
    assert result.status == 3 << 8
    assert delivery["frame"] == result.words[0] == (area + 8192 - 1120) & ~15
    assert (delivery["alt_stack"], sigreturn["alt_stack"]) == (True, True)
    assert delivery["ssp_after"] == delivery["ssp_before"] - 8
    assert sigreturn["ssp_after"] == delivery["ssp_before"]


def test_nested() -> None:
    start = f"""
        enable
        sys 134, 10, on_usr1, 0, 8
        sys 134, 12, on_usr2, 0, 8
        {RAISE}
        csrr_ssp s0
        report s0
        exit 3
    """
    first = """
        addi sp, sp, -16
        sd ra, 0(sp)
        csrr_ssp s0
        report s0
        sys 172
        li a1, 12
        sys 129
        csrr_ssp s0
        report s0
        ld ra, 0(sp)
        addi sp, sp, 16
    """
    second = (
        "on_usr2: .dword usr2, 4, 0\nusr2:\ncsrr_ssp s1\nreport s1\nld s2, 0(s1)\nreport s2\nret"
    )
    result = run(guest(first, start, second))
    outer, inner, token, back, end = result.words
    assert (inner, token, back, end) == (outer - 8, outer, outer, outer + 8)
    assert result.status == 3 << 8


MISMATCH = """
    sspush
    li ra, 0x1234
bad:
    sspopchk
    exit 3
"""


def test_an_unhandled_mismatch_kills() -> None:
    result = run("enable\n" + MISMATCH)
    assert result.status == SIGSEGV
    [fatal] = result.rows("signals")
    assert (fatal["signo"], fatal["code"], fatal["si_addr"]) == (
        11,
        SEGV_CPERR,
        result.labels["bad"],
    )


def test_a_handled_mismatch() -> None:
    start = f"enable\nsys 134, 11, on_usr1, 0, 8\n{MISMATCH}"
    handler = "lw s0, 8(a1)\nreport s0\nld s0, 16(a1)\nreport s0\nexit 4"
    result = run(guest(handler, start))
    assert result.words == [SEGV_CPERR, result.labels["bad"]]
    assert result.status == 4 << 8
    [delivery] = result.rows("signals")
    assert delivery["ssp_after"] == delivery["ssp_before"] - 8


@pytest.mark.parametrize("ssp", ["page", "0", "0x8000000000000000"])
@pytest.mark.parametrize("segv_handled", [False, True])
def test_an_ssp_on_no_shadow_stack_is_death(ssp: str, segv_handled: bool) -> None:
    """The signal is replaced by a SIGSEGV, whose token can't be pushed either."""
    handled = "sys 134, 11, on_usr1, 0, 8" if segv_handled else ""
    start = f"""
        enable
        sys 134, 10, on_usr1, 0, 8
        {handled}
        li s0, {ssp}
        csrw_ssp s0
        {RAISE}
        exit 3
    """
    result = run(guest("exit 4", start, "page: .zero 4096"))
    assert result.status == SIGSEGV
    [fatal] = result.rows("signals")
    assert (fatal["kind"], fatal["signo"], fatal["code"]) == ("fatal", SIGSEGV, SI_KERNEL)


def test_a_frame_that_can_not_be_stored() -> None:
    """The token is pushed nevertheless. SIGSEGV's handler, on its own stack, sees it."""
    start = f"""
        enable
        sys 132, stack, 0
        sys 134, 10, on_usr1, 0, 8
        sys 134, 11, on_segv, 0, 8
        li sp, 0x100000
        {RAISE}
    """
    data = f"""
    on_segv: .dword segv, {SA_SIGINFO | SA_ONSTACK}, 0
    segv: exit 5
    stack: .dword area, 0, 8192
    area: .zero 8192
    """
    result = run(guest("exit 4", start, data))
    assert result.status == 5 << 8
    lost, delivery = result.rows("signals")
    assert (lost["signo"], lost["handler"]) == (SIGUSR1, None)
    assert (delivery["signo"], delivery["code"]) == (SIGSEGV, SI_KERNEL)
    assert delivery["ssp_before"] == lost["ssp_after"] == lost["ssp_before"] - 8


LANDING_PAD_FAULT = """
    prctl 81, 0, 1, 0, 0
    sys 134, 11, on_usr1, 0, 8
    li s0, target
    li s1, 0
    jalr s0
target:
    nop
    exit 3
"""


def test_a_handler_without_lpad_after_a_landing_pad_fault_dies() -> None:
    result = run(guest("exit 4", LANDING_PAD_FAULT))
    assert result.status == SIGSEGV
    delivery, fatal = result.rows("signals")
    assert fatal["code"] == SEGV_CPERR
    assert fatal["si_addr"] == delivery["handler"]


def test_sigreturn_resumes_without_elp() -> None:
    result = run(guest("lpad 0", LANDING_PAD_FAULT))
    assert result.status == 3 << 8


def test_a_signal_that_waits_for_a_new_thread() -> None:
    """first_user has the ssp that clone set. The token is pushed after it."""
    text = """
        enable
        sys 134, 10, on_usr1, 0, 8
        li a0, 0x50f00
        li a1, stack
        sys 220
        beqz a0, thread
        mv s7, a0
        sys 172
        mv a1, s7
        li a2, 10
        sys 131
        sys 101, nap, 0
        exit 3
    thread:
        sys 93, 0
    """
    result = run(guest("nop", text, "nap: .dword 1, 0\n.zero 4096\nstack: .dword 0"))
    [first] = [
        row
        for row in result.rows("task_events")
        if row["kind"] == "first_user" and row["tid"] != result.pid
    ]
    delivery, _ = result.rows("signals")
    [mapping] = [m for m in result.rows("mappings") if m["shadow_stack"] and m["op"] == "map"][1:]
    assert first["ssp"] == delivery["ssp_before"] == mapping["start"] + mapping["length"]
    assert first["seq"] < delivery["seq"]
