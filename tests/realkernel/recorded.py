"""What is recorded on a real kernel: every fixture with each of its arguments, under the kernel
that Debian ships; and the demo's program under kernels that are broken (mutants.py), on two harts
and in an older QEMU.

Events of these lie in `events/` (record_events.py), and campaign.py compares each with our model.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutants import MUTANTS

ROOT = Path(__file__).parents[2]
EVENTS = Path(__file__).with_name("events")
sys.path.insert(0, str(ROOT / "fixtures"))

from build import PROGRAMS  # noqa: E402

_DEMO = "shstk/guests/pthread.elf"


@dataclass(frozen=True)
class Recorded:
    """program: below the repository. options: of both the model and the real machine. qemu: a key
    of machine.QEMUS. kernel: of MUTANTS, or Debian's own. machine: options of the real machine
    alone."""

    name: str
    program: str
    args: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    qemu: str = "11"
    kernel: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return ROOT / self.program

    @property
    def file(self) -> Path:
        return EVENTS / f"{self.name}.zst"


_OFF = "QEMU page-faults for ever on a touched shadow-stack page while SSE = 0"
# Recordings that would not end -> why.
ENDLESS = {"sc12": _OFF, "probe-map": _OFF, "probe-faults": _OFF}
# Arguments of the fixtures that take some: each is a recording.
_CUTS = ("grow", "copy-on-write", "modify", "file", "syscalls", "breakpoint")
_AGAIN = ("threads", "forks", "spawns", "signals", "maps", "faults", "mismatches", "leaks")
_PROBE = (
    *("env", "prctl", "call", "rlimit", "threads", "vfork", "fork", "clone3", "map", "faults"),
    *("cfi_prctl", "signal", "gup", "exec", "from_thread", "clone_vm_exec", "placement"),
    *("protect", "regset", "sigreturn"),
)
_FAULTY = (
    *("smashed", "longjmp", "extra-push", "extra-pop", "two-tasks", "overflow", "underflow"),
    *("unmapped", "thread-off", "base-for-token", "null", "store", "ordinary-page", "reads-ssp"),
    *("off", "middle", "label", "handler", "token", "left-handler", "no-stack", "full-signal"),
    *("full-fault", "full-overflow", "no-frame", "zeroed-token", "ordinary-pointer"),
    *("off-in-handler", "damaged-frame", "forged-frame", "read-only", "moved", "mapped-over"),
    *("discarded", "no-load", "runs-stack", "misaligned", "swap-ordinary", "pop-ordinary", "amo"),
    *("enable-fails", "entered-off", "underflow-above", "no-lpad", "odd-lpad", "exec"),
)
_ARGUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cuts": tuple((how,) for how in _CUTS),
    "again": tuple((what, "3") for what in _AGAIN),
    "probe": tuple((scenario,) for scenario in _PROBE),
    "faulty": tuple((case,) for case in _FAULTY),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "a1": {"cpu": "rv64gc"},  # without shadow stacks
    "sc6-causes": {"pids_max": 1},
    # room for the 4 GiB of an unlimited RLIMIT_STACK
    "sc9": {"memory": 8 << 30},
    "probe-rlimit": {"memory": 8 << 30},
}
_RANDOM_AREAS = 6


def _areas(seed: int) -> bytes:
    """Steps of the fixture `areas`, at random. None pushes: an area may be ordinary memory by then,
    on which QEMU pushes too."""
    source, steps = random.Random(seed), [b"s\0\x09\0\0\x01\0\0"]
    for _ in range(30):
        what = source.choice("smupgra")
        advice = source.choice((4, 10, 11, 18, 19, 22, 23, 102, 103))  # MADV_*
        flags = advice if what == "a" else source.randrange(8 if what in "mp" else 2)
        places = source.randrange(12), source.randint(1, 5), source.randint(1, 5)
        steps.append(bytes([ord(what), *places, source.randrange(12), flags, 0, 0]))
    return b"".join(steps)


def _fixtures() -> list[Recorded]:
    found = []
    for row in PROGRAMS:
        if not row.path.startswith("fixtures/bin/") or row.name == "areas":
            continue
        for args in _ARGUMENTS.get(row.name, ((),)):
            name = "-".join((row.name, *args[:1]))
            if name not in ENDLESS:
                found.append(Recorded(name, row.path, args, _OPTIONS.get(name, {})))
    areas = "fixtures/bin/areas.elf"
    found += [
        Recorded(f"areas-{seed}", areas, options={"stdin": _areas(seed)})
        for seed in range(_RANDOM_AREAS)
    ]
    return found


RECORDED = {
    r.name: r
    for r in (
        Recorded("pthread", _DEMO),
        Recorded("pthread-qemu10", _DEMO, qemu="10"),
        Recorded("pthread-smp2", _DEMO, machine={"smp": 2}),
        *_fixtures(),
        *(Recorded(f"kernel-{name}", _DEMO, kernel=name) for name in MUTANTS),
    )
}
