"""What was recorded is executed again from the run directory alone, to the last bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replaying import PROGRAMS, PTHREAD, recorded, rows

from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.rerun.kernel import record_under
from shstk.schemas.errors import BadRun
from shstk.tracer.guest import set_up
from shstk.tracer.record import RecordOptions, record_guest
from shstk.tracer.recording.recorder import Recorder
from shstk.tracer.recording.rundir import recover
from shstk.tracer.rerun.setup import set_up_again

DEBIAN = Path("~/.cache/shstk/debian-trixie-riscv64").expanduser()
ALL = frozenset({"cfi", "flow", "insn"})

# program -> how it is recorded
GUESTS: dict[str, dict[str, Any]] = {
    "processes": {"kernel": "v6"},
    "signals": {"kernel": "v3", "trace": ALL},
    "taking-turns": {"quantum": (50, 90), "seed": 7, "trace": frozenset({"cfi"})},
    "green-threads": {"enable_cfi": "on", "trace": frozenset()},
    "lock-order": {"quantum": (100, 300), "seed": 3},
    "longjmp": {"cpu": "rv64gc"},
    "pthread-pads": {"kernel": "7.2,release_hook=exit_thread", "memory": 64 << 20},
    "sc6": {"rlimits": {"AS": 1 << 30}, "env": {"A": "b=c", "EMPTY": ""}},
    "x3": {"max_instructions": 3000},
}


def agrees(run: Run) -> None:
    result = replay(run)
    assert result.disagreement is None
    assert result.whole == (run.manifest.ending not in ("timeout", "interrupted", "recovered"))
    for name, entry in run.manifest.tables.items():
        assert result.agreed[name] == entry.rows


@pytest.mark.parametrize("name", GUESTS)
def test_fixtures(name: str, tmp_path: Path) -> None:
    program = tmp_path / f"{name}.elf"
    shutil.copy(PROGRAMS / f"{name}.elf", program)
    run = recorded(tmp_path / "a.run", program, **GUESTS[name])
    program.unlink()
    moved = tmp_path / "elsewhere" / "b"
    moved.parent.mkdir()
    assert run.path is not None
    run.path.rename(moved)
    agrees(Run.open(moved))


@pytest.mark.parametrize(
    ("program", "argv0"),
    [
        ("x5.elf", "x5.elf"),
        ("/bin/x5.elf", "/bin/x5.elf"),
        ("bin/x5.elf", "/bin/x5.elf"),
        (str(PROGRAMS / "sc1.elf"), "/sc1.elf"),
    ],
)
def test_argv0_leads_to_the_program(program: str, argv0: str, tmp_path: Path) -> None:
    """From the working directory, or on PATH: a program may open or execute itself by it."""
    (tmp_path / "root/bin").mkdir(parents=True)
    shutil.copy(PROGRAMS / "x5.elf", tmp_path / "root/bin")
    run = recorded(tmp_path / "a.run", Path(program), root=tmp_path / "root")
    assert run.manifest.argv == (argv0,)
    agrees(run)


def test_two_recordings_are_one(tmp_path: Path) -> None:
    one, two = (recorded(tmp_path / f"{n}.run", PTHREAD) for n in "ab")
    assert one.manifest == two.manifest


@pytest.fixture
def debian() -> Path:
    if not DEBIAN.is_dir():
        pytest.skip("no Debian tree for riscv64")
    return DEBIAN


SHELL = {
    "files": "cd /tmp; for i in 1 2 3; do echo $i > f$i; done; cat f* | sort -r; ls -l /tmp; rm f1",
    "links": "ls -lR /etc/alternatives | head -20; readlink -f /usr/bin/awk; cd /nowhere; cat /no",
    "stdin": "read a; echo got $a; wc -c; read b || echo end",
    "processes": "(sleep 0.02; echo late) & (echo early; exit 3); echo $?; wait; date +%s",
    "signals": "trap 'echo usr1' USR1; kill -USR1 $$; sleep 5 & kill $!; wait; kill -SEGV $$",
}


@pytest.mark.parametrize("name", SHELL)
def test_a_shell(name: str, debian: Path, tmp_path: Path) -> None:
    run = recorded(
        tmp_path / "a.run",
        Path("/bin/bash"),
        argv=("-c", SHELL[name]),
        root=debian,
        stdin=b"first line\nsecond\n\xff",
        env={"PATH": "/usr/bin:/bin"},
    )
    assert all(row["tree"] == 0 for row in rows(run, "tree"))
    agrees(run)


def test_a_tree_that_has_gone(tmp_path: Path) -> None:
    """Files, links, listings, refusals, overlays, binds: the run has the answers."""
    root, over, work = (tmp_path / name for name in ("root", "over", "work"))
    for folder in (root / "etc", root / "bin", over / "etc", work):
        folder.mkdir(parents=True)
    (root / "etc/a").write_text("lower a\n")
    (root / "etc/gone").write_text("hidden\n")
    (over / "etc/.wh.gone").touch()
    (over / "etc/b").write_text("upper b\n")
    (root / "etc/link").symlink_to("a")
    (root / "dangling").symlink_to("/no/where")
    os.mkfifo(root / "fifo")
    (work / "caf\udce9").write_text("latin\n")
    single = tmp_path / "single"
    single.write_text("one file\n")
    shutil.copy(PROGRAMS / "processes.elf", root / "bin/prog")
    run = recorded(
        tmp_path / "a.run",
        Path("/bin/prog"),
        root=root,
        overlay=over,
        binds=((work, "/mnt/work", True), (single, "/mnt/single", False)),
        cwd="/mnt/work",
    )
    for folder in (root, over, work):
        shutil.rmtree(folder)
    single.unlink()
    assert [(t.kind, t.guest, t.writable) for t in run.manifest.trees] == [
        ("root", "/", True),
        ("bind", "/mnt/work", True),
        ("bind", "/mnt/single", False),
    ]
    agrees(run)
    assert not work.exists()


class Typist:
    """Somebody at a terminal, who makes pauses."""

    def __init__(self, *lines: bytes) -> None:
        self.size = (50, 132)
        self.lines = list(lines)

    def read(self) -> bytes:
        return self.lines.pop(0) if self.lines else b""

    def set_attributes(self, termios: bytes) -> None:
        pass


def test_what_was_typed(debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(b"echo one; stty size\n", b"read x\n", b"an", b"swer\necho $x\n")
    monkeypatch.setattr("shstk.tracer.guest.open_terminal", lambda options, limits: typist)
    run = recorded(
        tmp_path / "a.run",
        Path("/bin/bash"),
        argv=("-i",),
        root=debian,
        tty=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert run.manifest.tty == (50, 132)
    assert [row["bytes"] for row in rows(run, "typed")][-1] == b""
    written = b"".join(row["bytes"] for row in rows(run, "output"))
    assert b"50 132" in written
    assert b"answer" in written
    agrees(run)


def after(icounts: int) -> Callable[[], bool]:
    """Interrupts once it has been asked so often."""
    asked = iter(range(icounts))
    return lambda: next(asked, None) is None


def test_an_interrupted_run(tmp_path: Path) -> None:
    for times in (1, 2):
        run = recorded(
            tmp_path / f"{times}.run",
            PROGRAMS / "taking-turns.elf",
            quantum=(10, 20),
            interrupted=after(times),
        )
        assert run.manifest.ending == "interrupted"
        agrees(run)


def test_a_run_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in mid-run: what `recover` saved is executed again."""
    options = RecordOptions(
        program=str(PROGRAMS / "taking-turns.elf"), quantum=(200, 300), interrupted=after(3)
    )

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("shstk.tracer.recording.recorder.Recorder.seal", die)
    with pytest.raises(Killed):
        record_guest(
            lambda rec, bits: set_up(options, rec, bits),
            tmp_path / "a.run",
            trace=("cfi", "flow"),
            force=False,
        )
    run = Run.open(recover(tmp_path / "a.run.partial"))
    assert run.manifest.ending == "recovered"
    result = replay(run)
    assert result.disagreement is None
    assert result.icount == run.manifest.recovered_up_to // 2**20  # type: ignore[operator]


def test_up_to_a_position(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a.run", PTHREAD)
    calls = rows(run, "syscalls")
    call = calls[len(calls) // 2]
    result = replay(run, until=call["seq"])
    assert (result.disagreement, result.whole) == (None, False)
    assert result.icount == call["seq"] // 2**20
    assert result.agreed["flow"] == sum(r["seq"] <= call["seq"] for r in rows(run, "flow"))
    whole = replay(run, until=2**63)
    assert whole.whole
    assert whole.agreed["syscalls"] == len(calls)


def test_under_another_kernel(tmp_path: Path) -> None:
    """The same as recording the program under it; and that run can be executed again too."""
    run = recorded(tmp_path / "a.run", PTHREAD, kernel="7.2")
    result = record_under(run, "v3", tmp_path / "v3.run")
    direct = recorded(tmp_path / "direct.run", PTHREAD, kernel="v3")
    made = Run.open(result.path)
    assert made.manifest == direct.manifest
    agrees(made)


def test_a_file_that_the_run_does_not_hold(debian: Path, tmp_path: Path) -> None:
    """What the guest asks for under another kernel only is not there, and a warning says so."""
    run = recorded(
        tmp_path / "a.run",
        Path("/bin/cat"),
        argv=("/etc/debian_version",),
        root=debian,
    )
    asked = Run(replace(run.manifest, argv=("cat", "/etc/debian_version", "/etc/issue")), run.path)
    result = record_under(asked, "v6", tmp_path / "b.run")
    assert result.warnings == (
        "/etc/issue: the recorded run did not look it up, so it does not exist in this one",
    )
    written = [row["bytes"] for row in rows(Run.open(result.path), "output")]
    assert (debian / "etc/debian_version").read_bytes() in written
    assert b": No such file or directory" in written
    assert Run.open(result.path).manifest.warnings == result.warnings


def test_a_run_written_by_hand_cannot_be_executed(tmp_path: Path) -> None:
    from shstk.listing import build

    listing = Path(__file__).parents[1] / "rules" / "A5.md"
    run = Run.open(build(listing, tmp_path / "hand.run", run="own-stack"))
    with pytest.raises(BadRun, match="has no program"):
        replay(run)


def test_a_run_whose_tree_lost_its_program_cannot_be_executed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a.run", PROGRAMS / "sc12.elf")
    lost = [row | {"sha256": None} for row in rows(run, "tree")]
    assert run.path is not None
    with pytest.raises(
        BadRun, match=r"its program cannot be started again: /sc12\.elf: EACCES"
    ) as e:
        set_up_again(run.path, run.manifest, lambda table: lost, Recorder(tmp_path / "b.run"))
    assert "does not hold the program's file" in e.value.hint


def test_more_is_read_than_was_typed(
    debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shstk.tracer.guest.open_terminal", lambda options, limits: Typist(b"a\n", b"b\n")
    )
    run = recorded(tmp_path / "a.run", Path("/bin/head"), argv=("-n1",), root=debian, tty=True)
    agrees(run)
    asked = Run(replace(run.manifest, argv=("head", "-n2")), run.path)
    result = record_under(asked, "v6", tmp_path / "b.run")
    assert any("reads more from the terminal" in warning for warning in result.warnings)
