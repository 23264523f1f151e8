"""A recording that is cut off keeps the rows up to its last mark."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recording import MANIFEST, FakeMachine, call, contents, push

from shstk.replay.run import Run
from shstk.schemas.errors import BadRun, CannotWrite, OutputExists
from shstk.schemas.seq import STEPS, pack
from shstk.tracer.recording.recorder import Recorder
from shstk.tracer.recording.rundir import recover

RECORD_FOREVER = """
import sys
from pathlib import Path
from recording import *
from shstk.tracer.recording.recorder import Thresholds
rec = Recorder(Path(sys.argv[1]), thresholds=Thresholds(mark_seconds=0))
rec.begin(MANIFEST)
machine = FakeMachine()
rec.input("/prog", b"elf", 0o755, 0)
icount = 0
while True:
    rows = range(icount + 1, icount + 101)
    machine.put("cfi", [push(i) for i in rows])
    for i in rows:
        call(rec, i)
    icount += 100
    rec.tick(machine)
"""


def started(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-Wignore::DeprecationWarning", "-P", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def assert_complete(run: Run, upto: int) -> None:
    """The run has every row up to a seq, and none after it."""
    icount = upto // STEPS
    assert run.table("cfi")["seq"].to_list() == [pack(i, 0) for i in range(1, icount + 1)]
    assert run.table("syscalls")["seq"].to_list() == [pack(i, 1) for i in range(1, icount + 1)]


def test_kill_9(tmp_path: Path) -> None:
    process = started(RECORD_FOREVER, tmp_path / "run")
    progress = tmp_path / "run.partial" / "progress.jsonl"
    deadline = time.monotonic() + 30
    while not (progress.exists() and progress.read_text().count("\n") > 3):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadRun, match="cut off") as error:
        Run.open(tmp_path / "run.partial")
    assert "shstk recover" in error.value.hint
    with pytest.raises(BadRun) as error:
        Run.open(tmp_path / "run")
    assert "shstk recover" in error.value.hint

    run = Run.open(recover(tmp_path / "run.partial"))
    assert run.path == tmp_path / "run"
    assert not (tmp_path / "run.partial").exists()
    assert (run.manifest.ending, run.manifest.complete) == ("recovered", False)
    upto = run.manifest.recovered_up_to
    assert upto is not None
    assert upto >= pack(300, 1)
    assert_complete(run, upto)
    assert run.file(run.table("inputs")["sha256"][0]) == b"elf"


def abandoned(directory: Path) -> Path:
    """A recording with 5 marks, at 1000, 2000 …, abandoned after the last."""
    rec = Recorder(directory)
    rec.begin(MANIFEST)
    machine = FakeMachine()
    for start in range(1, 5001, 1000):
        machine.put(
            "cfi", [push(i, value=i * 0x9E3779B9 % 2**32) for i in range(start, start + 1000)]
        )
        for i in range(start, start + 1000):
            call(rec, i)
        rec.drain(machine)
        rec.mark()
    rec.abandon()
    return directory.with_name(directory.name + ".partial")


def test_an_error_of_ours_leaves_what_was_recorded(tmp_path: Path) -> None:
    run = Run.open(recover(abandoned(tmp_path / "run")))
    assert run.manifest.recovered_up_to == pack(5000, 1)
    assert_complete(run, pack(5000, 1))


def recovered(partial: Path) -> int | None:
    """The seq of the recovery; None if there is nothing to recover."""
    try:
        return Run.open(recover(partial)).manifest.recovered_up_to
    except BadRun:
        return None


def test_a_stream_torn_anywhere(tmp_path: Path) -> None:
    partial = abandoned(tmp_path / "run")
    size = (partial / "cfi.0.arrows").stat().st_size
    rng = random.Random(1)
    seen = set()
    for cut in (0, 1, size - 1, size, *(rng.randrange(size) for _ in range(20))):
        torn = tmp_path / f"torn{cut}.partial"
        shutil.copytree(partial, torn)
        os.truncate(torn / "cfi.0.arrows", cut)
        seen.add(upto := recovered(torn))
        if upto is not None:
            assert_complete(Run.open(tmp_path / f"torn{cut}"), upto)
    assert {None, pack(5000, 1)} < seen, "some cuts lose all, some nothing, some a part"


def test_a_progress_line_torn_in_the_middle(tmp_path: Path) -> None:
    partial = abandoned(tmp_path / "run")
    lines = (partial / "progress.jsonl").read_text().splitlines()
    (partial / "progress.jsonl").write_text("\n".join([*lines[:3], lines[3][:10]]))
    run = Run.open(recover(partial))
    assert run.manifest.recovered_up_to == pack(3000, 1)
    assert_complete(run, pack(3000, 1))


def test_nothing_to_recover(tmp_path: Path) -> None:
    Recorder(tmp_path / "run").abandon()
    with pytest.raises(BadRun, match="nothing to recover"):
        recover(tmp_path / "run.partial")
    with pytest.raises(BadRun, match="no such directory"):
        recover(tmp_path / "other.partial")


def full_disk(directory: Path, rows: int, size: int) -> subprocess.Popen[str]:
    """Record `rows` calls while no file may be larger than `size`."""
    code = """
import sys
from pathlib import Path
from recording import *
from shstk.schemas.errors import CannotWrite
rec = Recorder(Path(sys.argv[1]))
rec.begin(MANIFEST)
machine = FakeMachine()
try:
    for start in range(1, int(sys.argv[2]), 1000):
        rows = range(start, start + 1000)
        machine.put("cfi", [push(i, i * 0x9E3779B97F4A7C15 % 2**64) for i in rows])
        for i in rows:
            call(rec, i)
        rec.drain(machine)
        rec.mark()
    rec.seal(MANIFEST)
except CannotWrite as error:
    print(error)
    rec.abandon()
else:
    print("sealed")
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return started(code, directory, rows, preexec_fn=limit)


def test_a_full_disk_while_recording(tmp_path: Path) -> None:
    out, err = full_disk(tmp_path / "run", 1_000_000, 200_000).communicate(timeout=60)
    assert out.startswith(f"cannot write to {tmp_path}/run.partial"), err
    assert "shstk recover" in out
    assert err == ""
    run = Run.open(recover(tmp_path / "run.partial"))
    upto = run.manifest.recovered_up_to
    assert upto is not None
    assert upto >= pack(5000, 1)
    assert_complete(run, upto)


def test_a_full_disk_while_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rec = Recorder(tmp_path / "run")
    rec.begin(MANIFEST)
    for i in range(1, 100):
        call(rec, i)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shstk.tracer.recording.tablefile.join", full)
        with pytest.raises(CannotWrite, match="No space left on device") as error:
            rec.seal(MANIFEST)
        assert "shstk recover" in error.value.hint
    assert not (tmp_path / "run").exists()
    run = Run.open(recover(tmp_path / "run.partial"))
    assert run.manifest.ending == "exited", "the program had ended: nothing is missing"
    assert run.manifest.recovered_up_to is None
    assert len(run.table("syscalls")) == 99


def test_cut_off_between_the_manifest_and_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rec = Recorder(tmp_path / "run")
    call(rec, 1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(CannotWrite):
            rec.seal(MANIFEST)
    Run.open(recover(tmp_path / "run.partial"))
    assert contents(tmp_path / "run").keys() == {"manifest.json", "syscalls.parquet"}


def test_a_table_torn_after_sealing_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is written again from what the recording left, without the damaged table."""
    partial = abandoned(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        patched.setattr("shstk.tracer.recording.rundir.Partial.leftovers", lambda _: [])
        with pytest.raises(CannotWrite):
            recover(partial)
    assert (partial / "manifest.json").exists()
    os.truncate(partial / "cfi.parquet", 100)
    run = Run.open(recover(partial))
    assert_complete(run, pack(5000, 1))


def test_one_at_a_time(tmp_path: Path) -> None:
    """A recording that is still running is neither recovered nor overwritten."""
    rec = Recorder(tmp_path / "run")
    rec.begin(MANIFEST)
    with pytest.raises(OutputExists, match="being written by another"):
        recover(tmp_path / "run.partial")
    with pytest.raises(OutputExists, match="being written by another"):
        Recorder(tmp_path / "run", force=True)
    call(rec, 1)
    rec.seal(MANIFEST)
    assert Run.open(tmp_path / "run").table("syscalls").height == 1


def test_recover_does_not_overwrite(tmp_path: Path) -> None:
    old = contents(recover(abandoned(tmp_path / "run")))
    partial = abandoned(tmp_path / "other").rename(tmp_path / "run.partial")
    with pytest.raises(OutputExists, match="already exists"):
        recover(partial)
    assert contents(tmp_path / "run") == old
    assert partial.exists()
    recover(partial, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


OVERWRITE = """
import os, shutil, sys
from pathlib import Path
from recording import *
from shstk.schemas.door import faults, read_manifest
from shstk.tracer.recording.rundir import recover

def overwrite(out, calls):
    rec = Recorder(out, force=True)
    rec.begin(MANIFEST)
    for i in range(1, calls):
        call(rec, i)
    rec.seal(MANIFEST)

def kill_at(number):
    def hook(event, arguments):
        nonlocal number
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"):
            number -= str(arguments[0]).startswith(str(out))
            if number == 0:
                os._exit(9)
    sys.addaudithook(hook)

out = Path(sys.argv[1])
overwrite(out, 2)
number, status = 0, 9
while status:
    number += 1
    child = os.fork()
    if not child:
        kill_at(number)
        overwrite(out, 2 + number)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), status
    found = list(faults(out, read_manifest(out)))
    assert not found, (number, found)
    partial = out.with_name("run.partial")
    if (partial / "manifest.json").exists():
        copy = out.with_name("copy.partial")
        shutil.copytree(partial, copy)
        new = recover(copy)
        assert not list(faults(new, read_manifest(new))), number
        shutil.rmtree(new)
print(number)
"""


def test_killed_while_overwriting(tmp_path: Path) -> None:
    """Before any step on a file: RUN is the old run or the new one, and whole; and once its
    manifest is written, what is left of the new one can be recovered."""
    out, err = started(OVERWRITE, tmp_path / "run").communicate(timeout=60)
    assert err == ""
    assert int(out) > 20, "it was killed at every step"
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "and leaves nothing behind"
