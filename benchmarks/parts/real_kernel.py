"""What a recording of a real kernel costs, from power on to power off.

CPU seconds (user and system) of QEMU alone, with its clock that counts instructions (-icount), and
with the plugin too, which is a recording; then the seconds in which the events become a run.
`empty` is the boot, `calls` makes 100,000 system calls, `sort` and `fib` push and pop. Kernel,
firmware and QEMU come from Debian (tests/realkernel/machine.py).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.guests import build
from benchmarks.harness import Bench, Results

sys.path.insert(0, str(ROOT / "tests/realkernel"))

from machine import Machine, NotToBeHad, machine

import shstk
from shstk.schemas.errors import ShstkError
from shstk.tracer.realkernel.events import End, Events
from shstk.tracer.realkernel.options import KernelFiles, RealOptions

GUESTS = ("empty", "sort", "calls", "fib")
FEWER = ("-DNUMBER=25",)  # of fib: 250,000 calls
# Words of QEMU's command line that each way leaves out, with the one that follows them.
WAYS = {"QEMU": "-plugin|-icount|-rtc", "-icount": "-plugin", "recorded": "none"}
# A QEMU that leaves some words out, and writes down how long it took.
WITHOUT = """#!/bin/sh
[ "$1" = --version ] && exec {qemu} --version
for word; do
    shift
    if [ "$left" ]; then left=
    else case $word in {left_out}) left=1 ;; *) set -- "$@" "$word" ;; esac
    fi
done
{qemu} "$@"
status=$?
times > {times}
exit $status
"""


@dataclass(frozen=True)
class Cost:
    """seconds: of QEMU, way by way. imported: seconds."""

    seconds: dict[str, float]
    imported: float
    events: int
    bytes: int
    run: int


def boot(program: Path, m: Machine, way: str, work: Path) -> tuple[float, Path]:
    """(CPU seconds of QEMU, the events)."""
    qemu, times, events = work / "qemu", work / "times", work / "events"
    qemu.write_text(WITHOUT.format(qemu=m.qemu, left_out=WAYS[way], times=times))
    qemu.chmod(0o755)
    events.unlink(missing_ok=True)
    options = RealOptions(
        files=KernelFiles(image=m.kernel),
        program=str(program),
        firmware=m.firmware,
        qemu=str(qemu),
        events=events,
        out=work / "booted.run",
        force=True,
    )
    try:
        shstk.record_real_kernel(options)
    except ShstkError:
        if way == "recorded":
            raise  # the others have no events
    return sum(map(_seconds, times.read_text().splitlines()[1].split())), events


def _seconds(text: str) -> float:
    minutes, _, seconds = text.rstrip("s").partition("m")
    return 60 * float(minutes) + float(seconds)


def cost(program: Path, m: Machine, repeat: int) -> Cost:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    imports = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for _ in range(repeat):
            for way in WAYS:
                seconds, events = boot(program, m, way, work)
                taken[way].append(seconds)
            begin = time.process_time()
            shstk.import_qemu(events, work / "made.run", executable=program, force=True)
            imports.append(time.process_time() - begin)
        ends = [event for event in Events(events) if isinstance(event, End)]
        size = sum(path.stat().st_size for path in (work / "made.run").rglob("*"))
        medians = {way: statistics.median(seconds) for way, seconds in taken.items()}
        return Cost(
            medians, statistics.median(imports), ends[-1].records, events.stat().st_size, size
        )


def measure(bench: Bench) -> Results:
    results = Results()
    try:
        m = machine()
    except NotToBeHad as error:
        results.absent["a real kernel"] = str(error)
        return results
    for name in GUESTS[: bench.size(4, 1)]:
        bench.say(name)
        program = build(name, bench.work, "start_linux.S", flags=FEWER)
        c = cost(program, m, bench.repeat)
        for way, seconds in {**c.seconds, "import": c.imported}.items():
            results.add(name, way, seconds)
        results.add(name, "events", c.events, "")
        results.add(name, "of the events", c.bytes / c.events, "bytes/event")
        results.add(name, "of the run", c.run / c.events, "bytes/event")
    return results
