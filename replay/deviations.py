"""What emulators do otherwise than the ISA: a finding that one explains is not the kernel's.

A rule names the deviation that could explain its finding (Finding.deviation). Where the recorder of
the run has it, the finding is reported by this name and does not count as a violation.
"""

from __future__ import annotations

from typing import Final

# recorder -> deviation -> what it does, seen with QEMU 10.0.2 and 11.1.3
DEVIATIONS: Final = {
    "qemu": {
        "ordinary page": "QEMU executes shadow-stack instructions on an ordinary page;"
        " the ISA asks for an access fault",
        "low bits": "QEMU keeps ssp's low bits; the ISA makes 2:0 read-only zero",
        "status off": "QEMU raises page faults on a touched shadow-stack page while SSE is 0;"
        " by the ISA a load works and a store is an access fault",
    }
}
