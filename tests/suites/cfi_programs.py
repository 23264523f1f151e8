"""C programs built with ziglang's musl, shadow stack and landing pads enforced, and run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from debian import NotToBeHad

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.tables import DERIVABLE
from shstk.tracer.guest import execute
from shstk.tracer.options import GuestOptions
from shstk.tracer.record import RecordOptions, record

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures"))

from build import FLAVOURS  # noqa: E402

_JUDGED = 20_000_000  # instructions of a program that rules look at
ENFORCED = FLAVOURS["musl-pads"]
# What C was when the suites' programs were written; -w alone leaves the newer errors.
TOLERANT = (
    "-w",
    "-Wno-implicit-int",
    "-Wno-implicit-function-declaration",
    "-Wno-int-conversion",
    "-Wno-incompatible-pointer-types",
    "-Wno-return-mismatch",
    "-Wno-parentheses",
)


@dataclass(frozen=True)
class Outcome:
    """ending: `exited with 0`, `killed by SIGSEGV`, `not built`…; output: what was said; findings:
    the rules that find something in a program that exited with 0."""

    ending: str
    output: str
    findings: tuple[str, ...] = ()


def need_compiler() -> None:
    if importlib.util.find_spec("ziglang") is None:
        raise NotToBeHad("ziglang is not installed (pip install ziglang==0.17.1)")


def compiled(sources: list[Path], flags: tuple[str, ...], target: Path) -> str | None:
    """Build `target`; what the compiler says if it will not."""
    command = (
        *(sys.executable, "-m", "ziglang", "cc", *ENFORCED, "-fno-sanitize=undefined", "-s"),
        *("-Wl,--build-id=none", *TOLERANT, *flags, *map(str, sources), "-lm", "-o", str(target)),
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    return None if done.returncode == 0 else done.stderr


def outcome(program: Path, kernel: str = "7.2", timeout: float = 60) -> Outcome:
    said = bytearray()
    result = execute(
        GuestOptions(
            program=str(program),
            kernel=kernel,
            timeout=timeout,
            on_output=lambda fd, data: said.extend(data),
        )
    )
    return Outcome(result.describe(), said.decode(errors="replace"))


def build_and_run(sources: list[Path], flags: tuple[str, ...], target: Path) -> Outcome:
    complaint = compiled(sources, flags, target)
    if complaint is not None:
        return Outcome("not built", complaint)
    ran = outcome(target)
    return replace(ran, findings=violated(target)) if ran.ending == "exited with 0" else ran


def violated(program: Path) -> tuple[str, ...]:
    """The rules that find something in the first instructions of a program."""
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "program.run"
        traced = frozenset(DERIVABLE)
        record(RecordOptions(str(program), max_instructions=_JUDGED, trace=traced, out=out))
        return tuple(sorted(set(check(Run.open(out)).violated["rule"])))
