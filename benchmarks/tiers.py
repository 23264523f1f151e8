"""Native code, the interpreter and qemu-user: python benchmarks/tiers.py [--repeat N] [--root DIR]

CPU seconds (user and system) of whole processes from start to end, nothing recorded, medians of N
runs. The tiers take turns, so that the load of the machine is the same for all. The guests of
benchmarks/guests run with Zicfiss enforced; qemu-user 10 executes its instructions as no-ops, and
older ones stop at them. `calls` makes 100,000 system calls, `empty` ends at once. With --root, an
unpacked Debian riscv64, its programs run too. QEMU_RISCV64 may name the qemu-user.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from executor import build

QEMU = os.environ.get("QEMU_RISCV64") or shutil.which("qemu-riscv64")
LONG = ("fib", "sort", "sha256", "nbody")
NAMES = ("empty", "calls", *LONG)
COUNTING = "s=0\nfor i in range(200000): s+=i*i%7\nprint(s)"
QUERY = (
    "with recursive n(i) as (select 1 union all select i+1 from n where i<100000)"
    " select sum(i*i%7) from n;"
)
DEBIAN = {
    "python3": ("/usr/bin/python3", "-S", "-c", COUNTING),
    "sqlite3": ("/usr/bin/sqlite3", ":memory:", QUERY),
    "bash": ("/usr/bin/bash", "-c", "for ((i=0; i<30000; i++)); do ((s+=i*i%7)); done; echo $s"),
}


@dataclass(frozen=True)
class Guest:
    name: str
    argv: tuple[str, ...]
    plain: str  # the program for qemu-user, which knows no shadow stack
    root: Path | None = None

    def ways(self) -> dict[str, list[str]]:
        """The commands that run it."""
        shstk = [sys.executable, "-P", "-m", "shstk", "exec"]
        shstk += ["--root", str(self.root)] if self.root else []
        found = {tier: [*shstk, "--tier", tier, *self.argv] for tier in ("interpreter", "auto")}
        if QEMU:
            prefix = ["-L", str(self.root)] if self.root else []
            found["qemu-user"] = [QEMU, *prefix, self.plain, *self.argv[1:]]
        return found


def guest(name: str, root: Path | None, directory: Path) -> Guest:
    if name in DEBIAN:
        return Guest(name, DEBIAN[name], f"{root}{DEBIAN[name][0]}", root)
    rounds = 20 if name in LONG else 1
    program = build(name, directory, "start_linux.S", rounds)
    plain = build(name, directory, "start.S", rounds)
    return Guest(name, (str(program),), str(plain))


def cpu_seconds(command: list[str]) -> tuple[float, bytes]:
    """Of the process, with what it wrote."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode < 0:
        raise SystemExit(f"{' '.join(command)}: signal {-process.returncode}")
    return usage.ru_utime + usage.ru_stime, output


def measure(ways: dict[str, list[str]], repeat: int) -> dict[str, float]:
    runs: dict[str, list[float]] = {way: [] for way in ways}
    outputs = set()
    for _ in range(repeat):
        for way, command in ways.items():
            seconds, output = cpu_seconds(command)
            runs[way].append(seconds)
            outputs.add(output)
    if len(outputs) != 1:
        raise SystemExit(f"what the guest wrote differs: {sorted(outputs)}")
    return {way: statistics.median(seconds) for way, seconds in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--root", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    names = options.names or [*NAMES, *(DEBIAN if options.root else ())]
    print(f"{'CPU seconds':12}{'interpreter':>13}{'auto':>13}{'qemu-user':>13}")
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            ways = guest(name, options.root, Path(directory)).ways()
            figures = measure(ways, options.repeat).values()
            print(f"{name:12}" + "".join(f"{seconds:13.3f}" for seconds in figures), flush=True)


if __name__ == "__main__":
    main()
