"""Record the traces in tests/realkernel/traces again: ``python tests/realkernel/record_traces.py
[HARTS…]``. It takes some minutes; all that it needs comes from Debian (machine.py).

A trace is recorded by the very commands that `shstk ftrace-probes` prints, or by trace-cmd with the
same probes.
"""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from machine import machine, tools

from shstk.tracer.importers.ftrace.probes import COMMANDS, EVENTS, printed
from shstk.tracer.realkernel.initramfs import INIT, Job, build

ROOT = Path(__file__).parents[2]
TRACES = Path(__file__).with_name("traces")
BUSYBOX = "/usr/bin/busybox"
REPORT = "report"
DEMO = "shstk/guests/pthread.elf"
SCENARIOS = [n for n in range(1, 14) if n != 12]  # in sc12 QEMU page-faults for ever


@dataclass(frozen=True)
class Recorded:
    """program: below the repository. trace_cmd: options of trace-cmd record, which then writes a
    trace.dat; REPORT: the one before as trace-cmd report prints it."""

    name: str
    program: str
    trace_cmd: str = ""

    @property
    def file(self) -> Path:
        return TRACES / f"{self.name}.zst"

    def commands(self) -> list[str]:
        """Those that leave the trace in ~/trace.txt."""
        program = f"/guests/{Path(self.program).name}"
        if self.trace_cmd == REPORT:
            return ["cd ~; mv trace.txt trace.dat; trace-cmd report trace.dat > trace.txt"]
        if not self.trace_cmd:
            return [command.replace("/path/to/PROGRAM ARGS", program) for command in COMMANDS]
        events = " ".join(f"-e '{event}'" for event in EVENTS)
        how = f"{self.trace_cmd} -b 4096 -C mono {events}"
        return [COMMANDS[0], f"cd ~; trace-cmd record {how} -o ~/trace.txt {program}"]


# harts -> what is recorded in one boot
RECORDED = {
    1: (
        Recorded("pthread", DEMO),
        *(
            Recorded(name, f"fixtures/bin/{name}.elf")
            for name in ("processes", "signals", *(f"sc{n}" for n in SCENARIOS))
        ),
    ),
    2: (
        Recorded("pthread-smp2", DEMO),
        Recorded("pthread-v6", DEMO, "--file-version 6 --compression none"),
        Recorded("pthread-v7", DEMO, "--compression zstd"),
        Recorded("pthread-report", DEMO, REPORT),
    ),
}


def script(recorded: tuple[Recorded, ...]) -> str:
    lines = [
        f"exec > /dev/console 2>&1; {BUSYBOX} mkdir -p /bin /sys; {BUSYBOX} --install -s /bin",
        "test -e /lib || ln -s usr/lib /lib",
        "mount -t sysfs s /sys; mount -t tracefs t /sys/kernel/tracing",
        "mount -o bind /dev/null /proc/kallsyms",  # trace-cmd puts all of it into its files
    ]
    for r in recorded:
        lines += [
            *r.commands(),
            f"echo '=== {r.name}'; gzip -c ~/trace.txt | base64; echo '=== end'",
            "echo > /sys/kernel/tracing/set_event; echo > /sys/kernel/tracing/dynamic_events",
        ]
    return "\n".join(lines)


def record(harts: int, recorded: tuple[Recorded, ...]) -> None:
    parts = machine()
    job = Job(BUSYBOX, ("sh", "-c", script(recorded)), ("PATH=/bin:/usr/bin", "HOME=/root"), uid=0)
    files = [
        ("/root/probes", printed().encode()),
        *((f"/guests/{Path(r.program).name}", (ROOT / r.program).read_bytes()) for r in recorded),
    ]
    with tempfile.TemporaryDirectory() as work:
        initrd = Path(work, "initrd")
        initrd.write_bytes(build(job, files, root=tools()))
        words = ["-M", "virt", "-cpu", "max", "-nographic", "-no-reboot", "-m", "1G"]
        words += ["-smp", str(harts), "-bios", parts.firmware, "-kernel", parts.kernel]
        words += ["-append", f"console=ttyS0 quiet loglevel=1 panic=-1 rdinit={INIT}"]
        console = subprocess.run(
            [parts.qemu, *words, "-initrd", initrd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode("utf-8", "replace")
    for r in recorded:
        found = re.search(rf"=== {r.name}\s(.*?)=== end", console, re.DOTALL)
        assert found, console
        data = gzip.decompress(base64.b64decode(found[1]))
        with pa.output_stream(str(r.file), compression="zstd") as stream:
            stream.write(data)
        print(f"{r.name}: {len(data)} bytes, {r.file.stat().st_size} packed")


def main() -> None:
    TRACES.mkdir(exist_ok=True)
    for harts in map(int, sys.argv[1:] or RECORDED):
        record(harts, RECORDED[harts])


if __name__ == "__main__":
    main()
