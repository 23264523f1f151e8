"""RISC-V exception causes: scause, and stval of a software check.

Privileged manual, "Machine Cause Register"; unprivileged manual, Zicfiss and Zicfilp.
"""

from __future__ import annotations

from typing import Final

INSTRUCTION_MISALIGNED: Final = 0
INSTRUCTION_ACCESS: Final = 1
ILLEGAL_INSTRUCTION: Final = 2
BREAKPOINT: Final = 3
LOAD_MISALIGNED: Final = 4
LOAD_ACCESS: Final = 5
STORE_MISALIGNED: Final = 6  # store: AMOs too
STORE_ACCESS: Final = 7
INSTRUCTION_PAGE: Final = 12
LOAD_PAGE: Final = 13
STORE_PAGE: Final = 15
SOFTWARE_CHECK: Final = 18

LANDING_PAD_FAULT: Final = 2
SHADOW_STACK_FAULT: Final = 3
