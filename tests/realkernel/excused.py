"""Where our answers differ from the real kernels' on purpose: each line by name, with the reason.

`expected` is what the line must be instead; None: the line is left out on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_ON_ORDINARY_PAGE = (
    "QEMU lets sspush, sspopchk and ssamoswap work on an ordinary page; the ISA says access fault"
)
_BESIDE = "what lies beside the stack decides, which is the machine's and the probe's business"
_OFF = (
    "QEMU page-faults for ever on a touched shadow-stack page while SSE = 0; the ISA says: a load"
    " works, a store is an access fault"
)
_LOW_BITS = "QEMU keeps ssp's low bits; the ISA makes 2:0 read-only zero on an RV64-only hart"


@dataclass(frozen=True)
class Excuse:
    reason: str
    expected: dict[str, Any] | None


def _access_fault(cfi_state: str, ssp: str) -> dict[str, Any]:
    return {
        "t": "faults",
        "e": "fault",
        "sig": 11,
        "si_code": 2,
        "si_addr": "text",
        "addr_is": "pc",
        "cfi_state": cfi_state,
        "ssp": ssp,
        "getregset": 0,
    }


EXCUSES: dict[tuple[str, str], Excuse] = {
    **{
        ("faults", case): Excuse(_ON_ORDINARY_PAGE, {**_access_fault("0x28", ssp), "case": case})
        for case, ssp in (
            ("sspush_on_rw_page", "first+0x1800"),
            ("sspush_on_untouched_rw_page", "first+0x1800"),
            ("sspopchk_on_rw_page", "first+0x1000"),
            ("ssamoswap_rw_page", "first+0x0"),
            ("ssamoswap_untouched_rw_page", "first+0x0"),
        )
    },
    ("signal", "segv_handler_with_bogus_ssp"): Excuse(
        _ON_ORDINARY_PAGE + ": the token can't be pushed and the task dies",
        {"t": "signal", "e": "segv_handler_with_bogus_ssp", "exited": 0, "code": 0, "sig": 11},
    ),
    ("call", "csrw_ssp_unaligned"): Excuse(
        _LOW_BITS,
        {"t": "call", "e": "csrw_ssp_unaligned", "wrote": "first-0x5", "read": "first-0x8"},
    ),
    ("call", "csrw_ssp_unaligned4"): Excuse(
        _LOW_BITS,
        {"t": "call", "e": "csrw_ssp_unaligned4", "wrote": "first-0x4", "read": "first-0x8"},
    ),
    ("faults", "store_to_ss_page_when_disabled"): Excuse(
        _OFF, {**_access_fault("0x0", "0x0"), "case": "store_to_ss_page_when_disabled"}
    ),
    ("faults", "load_ss_page_when_disabled"): Excuse(
        _OFF,
        {
            "t": "faults",
            "e": "nofault",
            "case": "load_ss_page_when_disabled",
            "exited": 1,
            "code": 0,
            "sig": 0,
        },
    ),
    ("faults", "sspush_on_unmapped"): Excuse(_BESIDE, None),
    ("faults", "sspopchk_on_unmapped"): Excuse(_BESIDE, None),
    ("faults", "sspopchk_underflow_at_end"): Excuse(_BESIDE, None),
}
# Only for Debian's stock kernel.
_HUGE = "large stacks are aligned to 2 MiB, and so lie 6 MiB apart and not size + a page"
_FORCED = "proc_mem.force_override: there, writes through /proc/self/mem reach a shadow stack"
STOCK: dict[tuple[str, str], Excuse] = {
    ("threads", "hundred_alive"): Excuse(_HUGE, None),
    ("gup", "proc_self_mem_write"): Excuse(_FORCED, None),
    ("gup", "proc_self_mem_write_untouched"): Excuse(_FORCED, None),
    ("gup", "word"): Excuse(
        _FORCED + "; before that write the minimal kernel's line is compared", None
    ),
}


def named(line: dict[str, Any]) -> tuple[str, str]:
    """How a line is called here."""
    return line["t"], line.get("case", line["e"])
