"""How all parts measure: ways of doing one thing take turns, so that the load of the machine is the
same for all, and the median of each is taken. CPU seconds count all threads and children.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHSTK = (sys.executable, "-P", "-m", "shstk")
# .pyc files are written by the first start; a machine that forbids it would measure the compiler.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Cost:
    """Seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Figure:
    """One measured number. most, least: the goal; None: there is none."""

    row: str
    column: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def goal(self) -> str:
        if self.most is not None:
            return f"≤ {self.most:g}"
        return f"≥ {self.least:g}" if self.least is not None else ""


@dataclass(frozen=True)
class Curve:
    """A cost that grows with something, for a plot."""

    title: str
    across: str
    points: tuple[tuple[float, float], ...]  # (how many, CPU seconds)


@dataclass
class Results:
    """What a part has measured. absent: peers that this machine lacks, and why."""

    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        row: str,
        column: str,
        value: float,
        unit: str = "s",
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        self.figures.append(Figure(row, column, value, unit, most, least))


@dataclass(frozen=True)
class Bench:
    """The setting of a run of parts. quick: smaller, to see that everything works."""

    work: Path
    repeat: int = 5
    quick: bool = False
    root: Path | None = None  # an unpacked Debian riscv64
    say: Callable[[str], None] = lambda words: None

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def build(self, name: str, *options: str) -> Path:
        """A guest of guests/linux, static, with musl. It is built once."""
        out = self.work / name
        if not out.exists():
            source = Path(__file__).parent / "guests/linux" / f"{name}.c"
            command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
            subprocess.run([*command, "-static", "-O1", *options, source, "-o", out], check=True)
        return out

    def turns(self, ways: Mapping[str, Callable[[], Cost]]) -> dict[str, Cost]:
        """The median cost of each way."""
        runs: dict[str, list[Cost]] = {way: [] for way in ways}
        for n in range(self.repeat):
            for way, act in ways.items():
                self.say(f"{way} {n + 1}/{self.repeat}")
                runs[way].append(act())
        return {
            way: Cost(
                statistics.median(cost.cpu for cost in costs),
                statistics.median(cost.wall for cost in costs),
            )
            for way, costs in runs.items()
        }

    def commands(self, ways: Mapping[str, list[str]]) -> dict[str, Cost]:
        """As `turns`, of commands that have to succeed or to tell findings."""
        return self.turns({way: lambda c=command: run(c) for way, command in ways.items()})


def run(command: list[str]) -> Cost:
    """Of a process and its children."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stderr
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {process.returncode}\n{errors.decode()}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - began)


def cost(act: Callable[[], object]) -> Cost:
    """Of a function, in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def shstk(*arguments: str | Path) -> list[str]:
    return [*SHSTK, *map(str, arguments)]


def record(program: Path, *arguments: str, out: Path, options: tuple[str, ...] = ()) -> list[str]:
    return shstk("record", "--force", "-o", out, *options, program, *arguments)


def peer(variable: str, *names: str) -> str | None:
    """A program of another project: from an environment variable, or the PATH."""
    return os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
