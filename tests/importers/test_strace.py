"""Texts of strace: imported, judged, doctored and damaged.

logs/calls-* are what Debian's riscv64 strace wrote of calls.c, with several options
(record_strace.py).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shstk
from shstk.__main__ import run as command
from shstk.replay.check import Report, check
from shstk.replay.run import Run
from shstk.schemas.errors import BadRecording, Exit, UsageError

ROOT = Path(__file__).parents[2]
LOGS = Path(__file__).parent / "logs"
PLAIN = LOGS / "calls-plain"
VARIANTS = {
    name: sorted(LOGS.glob(f"calls-{name}*"))
    for name in ("plain", "raw", "verbose", "stderr", "files")
}
# Why each is judged: the text has every call with its arguments and its result, and every task with
# what created it, so it tells which state a prctl meets and which argument a call refuses.
SATISFIED = {
    "E2": 1,
    "P0": 2,
    "P2": 1,
    "P3": 1,
    "P4": 1,
    "P9": 3,
    "P10": 3,
    "M2": 1,
    "M3": 1,
    "M4": 1,
    "M5": 1,
    "M7": 1,
    "R1": 88,
    "R3": 61,
}
BEGIN = 'execve("/w/calls", ["calls"], 0x7ffe /* 0 vars */) = 0'


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Run]:
    """A run of files or lines."""

    def make(text: list[Path] | list[str] | str, **options: object) -> Run:
        paths = [Path(path) for path in text if isinstance(path, Path)]
        if not paths:
            paths = [tmp_path / "text"]
            paths[0].write_text(text if isinstance(text, str) else "".join(f"{t}\n" for t in text))
        made = shstk.import_strace(paths, tmp_path / "a.run", force=True, **options)  # type: ignore[arg-type]
        return Run.open(made.path)

    return make


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def satisfied(report: Report) -> dict[str, int]:
    return {result.rule.id: result.checked for result in report.of("satisfied")}


def whys(report: Report) -> dict[str, str]:
    return {result.rule.id: result.not_evaluated for result in report.results}


def calls(run: Run) -> list[tuple[object, ...]]:
    """Of each task, in order, by what it is."""
    known = pl.col("name").is_in(["prctl", "map_shadow_stack", "clone", "exit_group"])
    rows = run.table("syscalls").filter(known).sort("tid", "seq")
    return rows.select("tid", "name", "a0", "a1", "a2", "a4", "ret", "outcome").rows()


@pytest.mark.parametrize("name", VARIANTS)
def test_whatever_options_strace_had(name: str, imported: Callable[..., Run]) -> None:
    due = calls(imported(VARIANTS["plain"]))
    run = imported(VARIANTS[name])
    rows = calls(run)
    if name == "verbose":  # its environment has a variable more, and so its stacks are elsewhere
        assert [row[:2] + row[6:] for row in rows if row[1] != "map_shadow_stack"] == [
            row[:2] + row[6:] for row in due if row[1] != "map_shadow_stack"
        ]
    else:
        assert rows == due
    assert satisfied(check(run)) == SATISFIED
    assert run.manifest.program == "/w/calls"
    assert run.manifest.exit_status == 5 << 8


def test_tasks_and_address_spaces(imported: Callable[..., Run]) -> None:
    run = imported([PLAIN])
    events = run.table("task_events").with_columns(pl.col("kind").cast(pl.String))
    created = events.filter(pl.col("kind") == "created").select("tid", "value", "mm")
    assert created.rows() == [
        (103, None, 1), (104, 103, 1), (105, 103, 2), (106, 103, 1), (107, 103, 4),
    ]  # fmt: skip
    done = events.filter(pl.col("kind") == "exec_done").select("tid", "mm", "status")
    assert done.rows() == [(103, 1, 0), (105, 3, 0)]
    ended = dict(events.filter(pl.col("kind") == "exit_begin").select("tid", "status").rows())
    assert ended == {103: 0x500, 104: 0, 105: 0x300, 106: 0x700, 107: 11}
    assert run.table("signals").select("tid", "signo", "code", "si_addr").rows() == [
        (107, 11, 1, 16)
    ]
    clones = run.table("clones").select("child_tid", pl.col("api").cast(pl.String)).rows()
    assert clones == [(104, "clone"), (105, "fork"), (106, "vfork"), (107, "fork")]


def test_what_strace_cannot_see_is_not_judged(imported: Callable[..., Run]) -> None:
    report = check(imported([PLAIN]))
    assert report.clean
    why = whys(report)
    assert why["P6"] == "not observable by strace: mappings[shadow_stack]"
    assert why["M9"] == "not observable by strace: mappings[shadow_stack]"
    assert why["Z2"] == "not observable by strace: cfi"
    assert why["P1"] == "what PR_GET stored is not recorded"
    assert why["E1"] == "ssp at the exec is not recorded"
    (p3,) = (result for result in report.results if result.rule.id == "P3")
    assert p3.unseen == ("not observable by strace: mappings[shadow_stack]",)


@pytest.mark.parametrize(
    ("line", "result", "rule", "expected"),
    [
        ("map_shadow_stack(NULL, 4096, 0x8", "= 140737354117120", "M2", "-EINVAL"),
        ("map_shadow_stack(NULL, 4, ", "= -1 EINVAL (Invalid argument)", "M3", "-ENOSPC"),
        ("map_shadow_stack(0x1234,", "= 140737354117120", "M4", "-EINVAL"),
        ("map_shadow_stack(NULL, 18446", "= -1 EINVAL (Invalid argument)", "M5", "-EOVERFLOW"),
        ("map_shadow_stack(NULL, 0, 0)", "= 140737354117120", "M7", "-EINVAL"),
        ("prctl(0x4b /* PR_??? */, 0x1, 0, 0, 0x7)", "= 0", "P0", "-EINVAL"),
        ("prctl(0x4b /* PR_??? */, 0x8,", "= 0", "P2", "-EINVAL"),
        ("prctl(0x4a /* PR_??? */,", "= -1 EINVAL (Invalid argument)", "P1", "0 or -EFAULT"),
        ("104   prctl(0x4c /* PR_??? */", "= -1 EINVAL (Invalid argument)", "P9", "0"),
        ("105   prctl(0x4c /* PR_??? */", "= 0", "P9", "-EINVAL"),
        ("105   prctl(0x4b /* PR_??? */", "= -1 EINVAL (Invalid argument)", "E2", "not refused"),
        ("104   prctl(0x4b /* PR_??? */, 0,", "= 0", "P3", "-EINVAL"),
        ("prctl(0x51 /* PR_??? */, 0, 0x1,", "= -1 EINVAL (Invalid argument)", "P10", "0"),
    ],
)
def test_a_doctored_text_is_convicted(
    line: str, result: str, rule: str, expected: str, imported: Callable[..., Run]
) -> None:
    lines = lines_of(PLAIN)
    (at,) = (i for i, text in enumerate(lines) if line in text)
    begun, pid = lines[at], lines[at][:5]
    if begun.endswith("<unfinished ...>"):
        at = next(i for i in range(at, len(lines)) if f"{pid} <... prctl" in lines[i])
    lines[at] = lines[at][: lines[at].rindex("= ")] + result
    report = check(imported(lines, cpu="rv64gc_zicfiss_zicfilp"))
    found = report.violated.filter(pl.col("rule") == rule)
    assert found.height == 1
    assert found["expected"][0].startswith(expected)


def test_the_model_does_the_same(tmp_path: Path, imported: Callable[..., Run]) -> None:
    """pthread.elf, as strace saw it under our executor, and as the executor recorded it."""
    model = shstk.record(ROOT / "shstk/guests/pthread.elf", out=tmp_path / "model.run").path
    found = shstk.diff(model, imported([LOGS / "pthread"]))
    assert found.same
    assert {"syscalls.a0", "shadow_stacks"} <= {*found.left_out}


def test_a_child_that_is_there_before_its_clone_returns(imported: Callable[..., Run]) -> None:
    """As strace writes to a terminal: it breaks off a line to say that it attached a task."""
    run = imported(
        [
            BEGIN,
            "clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SIGHAND, child_tid=0x10, parent_tid=0x10,"
            " exit_signal=0, stack=0x2000, stack_size=0x7fff80, tls=0x20}/usr/bin/strace: Process"
            " 8 attached",
            "[pid     8] set_robust_list(0x30, 24 <unfinished ...>",
            "[pid     7] <... clone3 resumed> => {parent_tid=[8]}, 88) = 8",
            "[pid     8] <... set_robust_list resumed>) = 0",
            "[pid     8] exit(0)                = ?",
            "[pid     8] +++ exited with 0 +++",
            "gettid()                           = 7",
            "+++ exited with 0 +++",
        ]
    )
    assert run.manifest.first_tid == 7
    row = run.table("clones").row(0, named=True)
    assert (row["tid"], row["child_tid"], row["api"], row["stack_size"]) == (
        7, 8, "clone3", 0x7FFF80,
    )  # fmt: skip
    assert row["flags"] == 0x10900
    assert run.table("syscalls").select("tid", "name", "ret").sort("tid").rows() == [
        (7, "clone3", 8), (7, "gettid", 7), (8, "set_robust_list", 0), (8, "exit", None),
    ]  # fmt: skip


def test_a_thread_that_executes_takes_its_leaders_tid(imported: Callable[..., Run]) -> None:
    run = imported(
        [
            f"7 {BEGIN}",
            "7 clone(child_stack=0x9000, flags=CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 8",
            "7 pause_until_killed( <unfinished ...>",
            '8 execve("/bin/true", ["true"], 0x7ffe /* 0 vars */ <unfinished ...>',
            "7 <... pause_until_killed resumed>) = ? <unavailable>",
            "7 +++ superseded by execve in pid 8 +++",
            "7 <... execve resumed>)             = 0",
            "7 exit_group(0)                     = ?",
            "7 +++ exited with 0 +++",
        ]
    )
    events = run.table("task_events").select(pl.col("kind").cast(pl.String), "tid").rows()
    assert events[-3:] == [("exec_begin", 8), ("exec_done", 7), ("exit_begin", 7)]
    assert check(run).clean


def test_calls_that_are_restarted_or_never_end(imported: Callable[..., Run]) -> None:
    run = imported(
        [
            f"7 {BEGIN}",
            "7 wait4(9, 0x7ffd, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)",
            "7 --- SIGCHLD {si_signo=SIGCHLD, si_code=SI_USER, si_pid=9, si_uid=0} ---",
            "7 nanosleep({tv_sec=1}, 0x10) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)",
            "7 restart_syscall(<... resuming interrupted nanosleep ...>) = 0",
            '7 read(3</a) = 5, "b>, ") = 7\\n", 4) = 4',
            "7 futex(0x10, FUTEX_WAIT_PRIVATE, 2, NULL <detached ...>",
        ]
    )
    rows = run.table("syscalls").select("name", pl.col("outcome").cast(pl.String), "a0", "ret")
    assert rows.rows() == [
        ("wait4", "restarted", 9, None),
        ("nanosleep", "restarted", None, None),
        ("restart_syscall", "returned", None, 0),
        ("read", "returned", 3, 4),
        ("futex", "run_ended", 16, None),
    ]
    assert run.manifest.ending == "interrupted"


def test_calls_that_are_not_known_are_counted(imported: Callable[..., Run]) -> None:
    run = imported(
        [
            BEGIN,
            "call_of_next_year(1, 2)             = 0",
            "prctl(PR_OF_NEXT_YEAR, 1)           = 0",
            "syscall_0x1c5(0, 0x1000, 0, 0, 0, 0) = 0x7fff0000",
            "syscall_0x3e7(0x1, 0x2, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)",
        ]
    )
    assert run.table("syscalls").select("nr", "name", "a0", "a1").rows() == [
        (167, "prctl", None, 1),
        (453, "map_shadow_stack", 0, 0x1000),
        (999, None, 1, 2),
    ]
    assert "calls that are not known here were left out: call_of_next_year (1)" in (
        run.manifest.warnings
    )
    report = check(run)
    assert report.clean
    assert whys(report)["P3"] == "1 rows of syscalls have no a0"  # who knows what it did


def test_options_of_prctl_that_are_not_the_models(imported: Callable[..., Run]) -> None:
    run = imported([BEGIN, 'prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x10, 1, "a") = 0'])
    assert run.table("syscalls")["a0"].to_list() == [0x5356_4D41]
    assert whys(check(run))["P3"].startswith("no PR_SET_SHADOW_STACK_STATUS by a locked task")


def test_an_argument_that_is_not_printed(imported: Callable[..., Run]) -> None:
    """A strace that knew PR_SET_SHADOW_STACK_STATUS might leave out the arguments that are 0."""
    run = imported([BEGIN, "prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0"])
    blind = "syscalls: arguments of 1 calls that change a task are not printed"
    assert whys(check(run))["P4"] == f"not observable by strace: {blind}"


@pytest.mark.parametrize(
    ("refused", "needs"),
    [
        ("prctl(0x4b /* PR_??? */, 0x1, 0, 0, 0) = -1 EINVAL (Invalid argument)", "Zicfiss"),
        ("map_shadow_stack(NULL, 4096, 0) = -1 EOPNOTSUPP (Operation not supported)", "Zicfiss"),
        ("prctl(0x51 /* PR_??? */, 0, 0x1, 0, 0) = -1 EINVAL (Invalid argument)", "Zicfilp"),
    ],
)
def test_a_kernel_that_refuses_everything_may_be_right(
    refused: str, needs: str, imported: Callable[..., Run]
) -> None:
    with pytest.raises(UsageError, match=f"every call that needs {needs} failed"):
        imported([BEGIN, refused])
    assert check(imported([BEGIN, refused], cpu="rv64gc")).clean
    judged = check(imported([BEGIN, "prctl(0x4a, 0x10, 0, 0, 0) = -1 EINVAL (x)"], cpu="rv64gc"))
    assert satisfied(judged)["P0"] == 1


def test_the_kernel_that_uname_tells(imported: Callable[..., Run]) -> None:
    run = imported([BEGIN, 'uname({sysname="Linux", nodename="a", release="7.0.3", ...}) = 0'])
    assert run.manifest.kernel == "7.0"
    assert run.manifest.provenance.facts == {"banner": "Linux version 7.0.3"}
    with pytest.raises(UsageError, match="released without shadow stacks"):
        imported([BEGIN, 'uname({sysname="Linux", nodename="a", release="6.12.1", ...}) = 0'])
    assert imported([BEGIN], kernel="v6").manifest.kernel == "v6"


def test_a_packed_text_and_a_last_line_that_was_cut_off(
    tmp_path: Path, imported: Callable[..., Run]
) -> None:
    packed = tmp_path / "text.gz"
    packed.write_bytes(gzip.compress(PLAIN.read_bytes()[:-9]))
    run = imported([packed])
    assert run.manifest.exit_status is None
    assert "text.gz: the last line is incomplete and was left out" in run.manifest.warnings


def test_lines_of_the_program_are_counted(imported: Callable[..., Run]) -> None:
    run = imported([BEGIN, "four threads computed 1364", "gettid() = 3"])
    assert "1 lines are not strace's and were left out" in run.manifest.warnings
    assert run.table("syscalls").height == 1


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no system call in it"),
        (["Hello"], "no system call in it"),
        (["gettid() = 7"], ":1: the text does not begin with an exec"),
        ([f"7 {BEGIN}", "7 gettid( = 7"], ":2: not a line of strace"),
        ([f"7 {BEGIN}", "7 gettid() = -1 EOOPS (What?)"], ":2: an unknown result"),
        ([f"7 {BEGIN}", "8 gettid() = 8"], ":2: nothing created task 8"),
        ([f"7 {BEGIN}", "7 <... gettid resumed>) = 7"], ":2: task 7 resumes gettid"),
        ([f"7 {BEGIN}", "7 gettid( <unfinished ...>", "7 getpid() = 7"], ":3: task 7 calls getpid"),
        ([f"7 {BEGIN}", "7 +++ killed by SIGNIX +++"], ":2: an unknown signal"),
        ([f"7 {BEGIN}", "7 arch_prctl(ARCH_SET_FS, 0x7f) = 0"], ":2: arch_prctl is no system call"),
        (["[ Process PID=7 runs in 32 bit mode. ]", BEGIN], ":1: the program is none of 64 bits"),
        (['execve("/none", ["none"], 0x7f) = -1 ENOENT (No such file)'], "no program is executed"),
    ],
)
def test_a_text_that_cannot_be_read(
    lines: list[str], told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, out = tmp_path / "text", tmp_path / "a.run"
    text.write_text("".join(f"{line}\n" for line in lines))
    assert command(["import", "strace", str(text), "-o", str(out)]) == Exit.INPUT
    assert told in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_several_files_need_times(tmp_path: Path, imported: Callable[..., Run]) -> None:
    files = [tmp_path / "out.7", tmp_path / "out.8"]
    files[0].write_text(f"{BEGIN}\n")
    files[1].write_text("gettid() = 8\n")
    with pytest.raises(BadRecording, match=r"out\.7:1: the line has no time"):
        imported(files)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, texts = str(tmp_path / "a.run"), [str(path) for path in VARIANTS["files"]]
    assert command(["import", "strace", *texts, "-o", out]) == 0
    assert "/w/calls, 61 calls, imported as" in capfd.readouterr().err
    assert command(["log", out]) == 0
    told = capfd.readouterr().out
    assert "prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE, 0, 0, 0) = 0" in told
    assert "wait4(105, ?, 0, NULL) = 105" in told
    assert command(["replay", out]) == Exit.INPUT


TEXT = PLAIN.read_text()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.integers(0, len(TEXT) - 1),
    cut=st.integers(0, 40),
    new=st.text('0 x<>()[]{}"=?+-,\n17', max_size=4),
)
def test_damaged_texts_are_refused_or_read(tmp_path: Path, at: int, cut: int, new: str) -> None:
    text = tmp_path / "damaged"
    text.write_text(TEXT[:at] + new + TEXT[at + cut :])
    words = ["--cpu", "rv64gc_zicfiss_zicfilp", "-o", str(tmp_path / "d.run"), "--force"]
    status = command(["import", "strace", str(text), *words])
    assert status in (Exit.OK, Exit.INPUT)
    if status == Exit.OK:
        check(Run.open(tmp_path / "d.run"))
