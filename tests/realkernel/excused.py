"""Lines in which the model differs from the real kernels on purpose, by name, with the reason.

`expected` is the model's line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_ON_ORDINARY_PAGE = (
    "QEMU executes sspush, sspopchk and ssamoswap on an ordinary page; the ISA: access fault"
)
_NOT_UNMAPPED = "the probe's unmapped page was mapped on the real kernel; in the model it faults"
_OFF = (
    "QEMU page-faults for ever on a touched shadow-stack page while SSE = 0; the ISA: a load"
    " works, a store is an access fault"
)
_LOW_BITS = "QEMU keeps ssp's low bits; the ISA makes 2:0 read-only zero on an RV64-only hart"


@dataclass(frozen=True)
class Excuse:
    reason: str
    expected: dict[str, Any]


def _fault(
    case: str, *, ssp: str, si_code: int, si_addr: str, addr_is: str, cfi_state: str = "0x28"
) -> dict[str, Any]:
    return {
        "t": "faults",
        "e": "fault",
        "case": case,
        "sig": 11,
        "si_code": si_code,
        "si_addr": si_addr,
        "addr_is": addr_is,
        "cfi_state": cfi_state,
        "ssp": ssp,
        "getregset": 0,
    }


_ACCESS_FAULT: dict[str, Any] = {"si_code": 2, "si_addr": "text", "addr_is": "pc"}

EXCUSES: dict[tuple[str, str], Excuse] = {
    **{
        ("faults", case): Excuse(_ON_ORDINARY_PAGE, _fault(case, ssp=ssp, **_ACCESS_FAULT))
        for case, ssp in (
            ("sspush_on_rw_page", "first+0x1800"),
            ("sspush_on_untouched_rw_page", "first+0x1800"),
            ("sspopchk_on_rw_page", "first+0x1000"),
            ("ssamoswap_rw_page", "first+0x0"),
            ("ssamoswap_untouched_rw_page", "first+0x0"),
        )
    },
    ("signal", "segv_handler_with_bogus_ssp"): Excuse(
        _ON_ORDINARY_PAGE + ": the token can't be pushed and the task is killed",
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
        _OFF,
        _fault("store_to_ss_page_when_disabled", ssp="0x0", cfi_state="0x0", **_ACCESS_FAULT),
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
    ("faults", "sspush_on_unmapped"): Excuse(
        _NOT_UNMAPPED,
        _fault(
            "sspush_on_unmapped", ssp="0x20000800", si_code=1, si_addr="0x200007f8", addr_is="ssp-8"
        ),
    ),
    ("faults", "sspopchk_on_unmapped"): Excuse(
        _NOT_UNMAPPED,
        _fault(
            "sspopchk_on_unmapped", ssp="0x20000000", si_code=1, si_addr="0x20000000", addr_is="ssp"
        ),
    ),
}
# Lines of Debian's stock kernel that are not compared.
_HUGE = "large stacks are aligned to 2 MiB"
LEFT_OUT_OF_STOCK: dict[tuple[str, str], str] = {
    ("threads", "hundred_alive"): _HUGE + ", so they are 6 MiB apart and not size + a page",
    ("faults", "sspopchk_underflow_at_end"): _HUGE + ", so another page follows the stack",
}
# Lines of the minimal kernels that are not compared. The stock kernel's are.
_NOT_FORCED = "built so that writes through /proc/self/mem don't override protections"
LEFT_OUT_OF_MINIMAL: dict[tuple[str, str], str] = {
    ("gup", "proc_self_mem_write"): _NOT_FORCED,
    ("gup", "proc_self_mem_write_untouched"): _NOT_FORCED,
    ("gup", "word"): _NOT_FORCED,
}


def named(line: dict[str, Any]) -> tuple[str, str]:
    """The name of a line."""
    return line["t"], line.get("case", line["e"])
