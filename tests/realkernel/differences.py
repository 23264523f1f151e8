"""What the model of 7.2 rightly does otherwise than the real 7.2 under QEMU, in one recording each.

What two machines always differ in is left out of every comparison (replay/diff/machines.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Excuse:
    """ignore: words of `shstk diff --ignore`. findings: rules whose counts may differ."""

    reason: str
    ignore: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


NO_EXCUSE: Final = Excuse("")

_DEATH: Final = ("faults", "signals")
_ORDINARY: Final = Excuse(
    "QEMU executes shadow-stack instructions on an ordinary page; the ISA asks for an access fault",
    _DEATH,
)
_ABOVE: Final = Excuse(
    "a large stack is aligned to 2 MiB on a kernel with huge pages, so nothing is mapped above it;"
    " in the model the vdso is",
    _DEATH,
)
_AREAS: Final = Excuse(
    "it prints the areas of its smaps: a real vdso has two, and adjacent ones are not always one",
    ("write",),
)
# Of every scenario of the probe.
_PRINTS: Final = Excuse(
    "the probe prints what the machine has; test_real_kernels.py compares its lines", ("write",)
)
_PROBE: Final = (
    *("env", "prctl", "threads", "vfork", "fork", "clone3", "exec", "from_thread", "gup"),
    *("clone_vm_exec", "regset"),
)

EXCUSED: Final[dict[str, Excuse]] = {
    **{f"probe-{scenario}": _PRINTS for scenario in _PROBE},
    "probe-signal": Excuse(
        _ORDINARY.reason + ": two tasks die of it in the model",
        ("write", "wait4", "prctl", "signals", "task_events"),
    ),
    "sc8": Excuse(
        "the model has io_uring with IORING_SETUP_NO_MMAP and SQPOLL alone (sc8-sqpoll)",
        (
            *("io_uring_setup", "io_uring_enter", "pipe2", "mmap", "nanosleep", "write"),
            *("faults", "signals", "task_events", "shadow_stacks"),
        ),
        ("X5",),
    ),
    **{f"areas-{seed}": _AREAS for seed in range(6)},
    "cuts-modify": Excuse(
        "without a fence.i a hart may still run the instruction that was stored over; QEMU does, to"
        " the end of its block",
        ("output",),
    ),
    "faulty-ordinary-page": _ORDINARY,
    "faulty-swap-ordinary": replace(_ORDINARY, ignore=(*_DEATH, "write", "task_events")),
    "faulty-pop-ordinary": _ORDINARY,
    "faulty-mapped-over": _ORDINARY,
    "faulty-underflow-above": _ORDINARY,
    "faulty-entered-off": _ABOVE,
    "faulty-underflow": _ABOVE,
    "faulty-runs-stack": Excuse(
        "QEMU raises a page fault for a fetch from a shadow-stack page; the ISA asks for an access"
        " fault",
        ("faults",),
    ),
    "faulty-forged-frame": Excuse(
        "the frame is what lies above on the stack, the end of which is nearer in the model", _DEATH
    ),
}
