"""What is written survives: python tests/hostile/faults.py [--seed N] [--points N] [SCENARIO...]

Commands that write are killed at one of their calls that change files, or that call fails (ENOSPC,
EIO, EDQUOT, EINTR), or writes only half. After each, what the user has is looked at: it is what was
there before or all that is new, or the command said so and `recover` makes a whole run of the rest.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import faulthandler
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from telling import tell

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / "fixtures"
PROGRAM = FIXTURES / "bin/signals.elf"
OTHER = FIXTURES / "bin/pthread-off.elf"
LISTING = HERE.parent / "rules/A1.md"

KILL, HALF = 0, -1
FAULTS = (KILL, KILL, KILL, HALF, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR)
SECONDS = 60


@dataclass(frozen=True)
class Scenario:
    """prepare(directory) makes what is there before; the command runs in that directory; law
    returns what is wrong with what it left, or nothing."""

    name: str
    words: tuple[str, ...]
    law: Callable[[Path, int | None], str]
    prepare: Callable[[Path], None] = lambda directory: None


def shstk(*words: str) -> int:
    from shstk.__main__ import run

    return run(list(words))


def whole(run: Path) -> bool:
    return run.is_dir() and shstk("verify", str(run)) == 0


def program_of(run: Path) -> str:
    from shstk.schemas.door import read_manifest

    return Path(read_manifest(run).program).name


# --- the laws


def recorded(directory: Path, code: int | None) -> str:
    """A run that was not there before is whole, or can be recovered, or was too short."""
    run = directory / "out.run"
    if code == 0 and not run.exists():
        return "exit code 0, and there is no run"
    return _whole_or_recoverable(run)


def _whole_or_recoverable(run: Path) -> str:
    if run.exists() and not whole(run):
        return f"{run.name} is not whole"
    partial = run.with_name(run.name + ".partial")
    if partial.exists() and not run.exists():
        code = shstk("recover", str(partial))
        if code == 0 and not whole(run):
            return "recover made a run that is not whole"
        progress = partial / "progress.jsonl"
        if code != 0 and progress.exists() and b"\n" in progress.read_bytes():
            return f"recover: exit code {code}, although rows were on disk"
    return ""


def replaced(directory: Path, code: int | None) -> str:
    """The old run or the new one, whole, under its name."""
    run = directory / "out.run"
    if not whole(run):
        return "the old run is gone or damaged, and no new one is there"
    if code == 0 and program_of(run) != PROGRAM.name:
        return "exit code 0, and the old run is still there"
    return ""


def recovered(directory: Path, code: int | None) -> str:
    run, partial = directory / "out.run", directory / "out.run.partial"
    if run.exists():
        return "" if whole(run) else "the recovered run is not whole"
    if code == 0:
        return "exit code 0, and there is no run"
    if not partial.exists():
        return "neither the run nor the partial is there"
    return (
        ""
        if shstk("recover", str(partial)) == 0 and whole(run)
        else "recover fails the second time"
    )


def tables_exported(directory: Path, code: int | None) -> str:
    """All tables under the name, or none."""
    out, due = directory / "tables", directory / "due"
    if code == 0 and not out.exists():
        return "exit code 0, and there are no tables"
    if not out.exists():
        return ""
    shutil.rmtree(due, ignore_errors=True)
    shstk("export", "old.run", "-o", str(due))
    return "" if _same(out, due) else "some tables are missing or cut"


def _same(a: Path, b: Path) -> bool:
    names = sorted(file.name for file in a.iterdir())
    return names == sorted(file.name for file in b.iterdir()) and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in names
    )


def tables_replaced(directory: Path, code: int | None) -> str:
    if not (directory / "tables").exists():
        return "the old tables are gone"
    return tables_exported(directory, code)


def file_written(name: str, end: bytes) -> Callable[[Path, int | None], str]:
    """A file that is whole ends with `end`."""

    def law(directory: Path, code: int | None) -> str:
        file = directory / name
        if not file.exists():
            return f"exit code 0, and there is no {name}" if code == 0 else ""
        return "" if file.read_bytes().rstrip().endswith(end) else f"{name} is cut"

    return law


def written_back(directory: Path, code: int | None) -> str:
    """Each of the user's files is the old one or the new one, and a success changes all."""
    for name, old, new in (
        ("a", b"old a\n" * 999, b"new a\n" * 999),
        ("b", b"old b\n" * 9, b"new b\n" * 9),
    ):
        file = directory / "mine" / name
        if not file.exists():
            return f"{name} is gone"
        held = file.read_bytes()
        if held not in (old, new):
            return f"{name} is torn: {len(held)} bytes"
        if code == 0 and held != new:
            return f"exit code 0, and {name} is the old one"
    return ""


# --- what is there before


def an_old_run(directory: Path) -> None:
    assert shstk("record", "-o", "out.run", str(OTHER)) == 0


def a_run(directory: Path) -> None:
    assert shstk("record", "-o", "old.run", str(OTHER)) == 0


def a_partial(directory: Path) -> None:
    """A recording that was killed."""
    if (child := os.fork()) == 0:
        arm(count("record", "-o", "count.run", str(PROGRAM)) * 2 // 3, KILL)
        shstk("record", "-o", "out.run", str(PROGRAM))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    shutil.rmtree(directory / "count.run", ignore_errors=True)
    assert (directory / "out.run.partial").exists()


def old_tables(directory: Path) -> None:
    a_run(directory)
    assert shstk("export", "old.run", "-o", "tables") == 0


def my_files(directory: Path) -> None:
    (directory / "mine").mkdir()
    (directory / "mine/a").write_bytes(b"old a\n" * 999)
    (directory / "mine/b").write_bytes(b"old b\n" * 9)


WRITER = Path(os.environ.get("SHSTK_FAULTS_WRITER", HERE / "writer.elf"))

SCENARIOS = (
    Scenario("record", ("record", "-o", "out.run", str(PROGRAM)), recorded),
    Scenario(
        "record-force", ("record", "-o", "out.run", "--force", str(PROGRAM)), replaced, an_old_run
    ),
    Scenario("recover", ("recover", "out.run.partial"), recovered, a_partial),
    Scenario("build", ("build", str(LISTING), "--run", "mapped", "-o", "out.run"), recorded),
    Scenario("export", ("export", "old.run", "-o", "tables"), tables_exported, a_run),
    Scenario(
        "export-force",
        ("export", "old.run", "-o", "tables", "--force"),
        tables_replaced,
        old_tables,
    ),
    Scenario(
        "report",
        ("report", "old.run", "-o", "page.html"),
        file_written("page.html", b"</html>"),
        a_run,
    ),
    Scenario(
        "write-back", ("exec", "--bind", "mine:/mine:rw", str(WRITER)), written_back, my_files
    ),
)


# --- the faults

_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    global _library
    if _library is None:
        _library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        _library.faults_count.restype = ctypes.c_long
    return _library


def arm(at: int, kind: int, forever: bool = False) -> None:
    library().faults_arm(ctypes.c_long(at), kind, forever)


def count(*words: str) -> int:
    """The number of calls of a command that can meet a fault."""
    arm(0, KILL)
    shstk(*words)
    made = library().faults_count()
    arm(0, KILL)
    return int(made)


def in_child(directory: Path, work: Callable[[], str | int]) -> tuple[int | None, str]:
    """What it returns, from a process of its own: (exit code; None if it was killed, its words)."""
    said = directory / "said"
    child = os.fork()
    if child == 0:
        os.chdir(directory)
        with said.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        signal.alarm(SECONDS)
        faulthandler.dump_traceback_later(SECONDS - 5)
        code = 1
        try:
            result = work()
            arm(0, KILL)
            if isinstance(result, str):
                (directory / "wrong").write_text(result)
            code = result if isinstance(result, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    words = said.read_text(errors="replace")
    said.unlink()
    if os.WIFSIGNALED(status):
        return (
            (-1, f"takes too long: {words}")
            if os.WTERMSIG(status) == signal.SIGALRM
            else (None, words)
        )
    return os.WEXITSTATUS(status), words


def meet(
    scenario: Scenario, before: Path, directory: Path, at: int, kind: int, forever: bool
) -> str:
    """What is wrong after a fault, or nothing."""
    shutil.copytree(before, directory, symlinks=True)

    def command() -> int:
        arm(at, kind, forever)
        return shstk(*scenario.words)

    code, words = in_child(directory, command)
    if code == -1:
        return words
    if "Traceback" in words or code == 70:
        return f"exit {code}: {words[-600:]}"
    if code not in (None, 0, 3):
        return f"exit {code}: {words[-300:]}"
    judged, told = in_child(directory, lambda: scenario.law(directory, code))
    wrong = directory / "wrong"
    if judged != 0 or not wrong.exists():
        return f"the law ends with {judged}: {told[-600:]}"
    found = wrong.read_text()
    return f"{found} (exit {code}: {words[-300:]}; {told[-300:]})" if found else ""


def campaign(scenarios: list[Scenario], seed: int, points: int, work: Path) -> Iterator[str]:
    """What failed, in words that let it be repeated."""
    for scenario in scenarios:
        before = work / f"{scenario.name}.before"
        before.mkdir()

        def prepared(scenario: Scenario = scenario, before: Path = before) -> int:
            scenario.prepare(before)
            return 0

        code, words = in_child(before, prepared)
        assert code == 0, words
        counted = work / f"{scenario.name}.counted"
        shutil.copytree(before, counted)
        number = work / "number"

        def counting(scenario: Scenario = scenario, number: Path = number) -> int:
            number.write_text(str(count(*scenario.words)))
            return 0

        code, words = in_child(counted, counting)
        calls = int(number.read_text())
        assert calls, f"{scenario.name}: {words}"
        rng = random.Random(f"{seed} {scenario.name}")
        for _ in range(points):
            at, kind = rng.randint(1, calls), rng.choice(FAULTS)
            forever = kind in (errno.ENOSPC, errno.EDQUOT) and rng.random() < 0.7
            directory = work / "now"
            found = meet(scenario, before, directory, at, kind, forever)
            if found:
                said = {KILL: "killed", HALF: "half written"}.get(kind) or errno.errorcode[kind]
                ever = " and ever after" if forever else ""
                yield f"{scenario.name}: {said} at call {at} of {calls}{ever}: {found}"
            shutil.rmtree(directory, ignore_errors=True)


def preloaded(directory: Path) -> dict[str, str]:
    """The environment of a process that can meet faults."""
    library = directory / "faults.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", HERE / "faults.c", "-o", library, "-ldl"], check=True
    )
    writer = directory / "writer.elf"
    zig = [
        sys.executable,
        "-P",
        "-m",
        "ziglang",
        "cc",
        "-target",
        "riscv64-linux-musl",
        "-static",
        "-O1",
    ]
    subprocess.run([*zig, HERE / "writer.c", "-o", writer], check=True)
    return os.environ | {"LD_PRELOAD": str(library), "SHSTK_FAULTS_WRITER": str(writer)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=200, help="of each scenario")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if "SHSTK_FAULTS_WRITER" not in os.environ:
            again = [sys.executable, *sys.argv]
            sys.exit(subprocess.run(again, env=preloaded(Path(name)), check=False).returncode)
        # Imported before the processes of the points are forked. Polars must not be: its threads
        # would be missing in them.
        import shstk.__main__
        import shstk.tracer.record  # noqa: F401

        chosen = [s for s in SCENARIOS if not options.scenarios or s.name in options.scenarios]
        found = campaign(chosen, options.seed, options.points, Path(name))
        tell(found, f"{len(chosen) * options.points} points")


if __name__ == "__main__":
    main()
