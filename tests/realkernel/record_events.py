"""Record the events in tests/realkernel/events again: ``python tests/realkernel/record_events.py
[NAME…]``. It takes half a minute each; kernel, firmware and QEMU come from Debian (machine.py).

Linux, QEMU and what follows from them change with Debian's packages. The names of what was used are
in each file, and in `shstk info` of a run made of it.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from machine import Machine, machine
from mutants import MUTANTS, broken

import shstk
from shstk.tracer.realkernel.options import KernelFiles, RealOptions

ROOT = Path(__file__).parents[2]
EVENTS = Path(__file__).with_name("events")


@dataclass(frozen=True)
class Recorded:
    """program: below the repository. qemu: a key of machine.QEMUS. kernel: of MUTANTS, or Debian's
    own."""

    name: str
    program: str
    args: tuple[str, ...] = ()
    qemu: str = "11"
    kernel: str = ""
    options: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return EVENTS / f"{self.name}.zst"


def _fixture(name: str, **how: object) -> Recorded:
    return Recorded(name, f"fixtures/bin/{name}.elf", **how)  # type: ignore[arg-type]


_DEMO = "shstk/guests/pthread.elf"
_SCENARIOS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)

RECORDED = {
    r.name: r
    for r in (
        Recorded("pthread", _DEMO),
        Recorded("pthread-qemu10", _DEMO, qemu="10"),
        Recorded("pthread-smp2", _DEMO, options={"smp": 2}),
        *(_fixture(name) for name in ("pthread-pads", "processes", "signals", "longjmp", "faulty")),
        *(_fixture(f"sc{number}") for number in _SCENARIOS),
        _fixture("sc6-causes", options={"pids_max": 1}),
        *(Recorded(f"kernel-{name}", _DEMO, kernel=name) for name in MUTANTS),
    )
}


def record(r: Recorded, m: Machine, out: Path) -> Path:
    """Record into the run `out`; return the file of events beside it."""
    image = m.kernel
    if r.kernel:
        image = out.with_suffix(".Image")
        image.write_bytes(broken(m.kernel.read_bytes(), MUTANTS[r.kernel]))
    events = out.with_suffix(".events")
    options = RealOptions(
        files=KernelFiles(image=image),
        program=str(ROOT / r.program),
        argv=r.args,
        out=out,
        firmware=m.firmware,
        qemu=str(m.qemu),
        events=events,
        **r.options,
    )
    shstk.record_real_kernel(options)
    return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which to record (default: all)")
    chosen = parser.parse_args().names or list(RECORDED)
    EVENTS.mkdir(exist_ok=True)
    for name in chosen:
        r = RECORDED[name]
        with tempfile.TemporaryDirectory() as work:
            events = record(r, machine(r.qemu), Path(work, f"{name}.run"))
            with pa.output_stream(str(r.file), compression="zstd") as stream:
                stream.write(events.read_bytes())
        print(f"{name}: {r.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
