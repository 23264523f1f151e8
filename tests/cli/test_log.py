"""log: a system call is shown with its arguments in words, in JSON by their names too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from shstk.__main__ import run
from shstk.cli import cli
from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.kernel.table import CALLS

CLONES = ("clone", "clone3")  # in listings their arguments have names of their own


def log(tmp_path: Path, *lines: str) -> list[str]:
    """The texts of these calls; `ARGUMENTS = {…}` follows as JSON has them."""
    (tmp_path / "a.md").write_text("```run\nt1 boot\n" + "\n".join(lines) + "\n```")
    run = str(tmp_path / "a.run")
    for words in (("build", str(tmp_path / "a.md"), "-o", run, "--force"), ("log", run, "--calls")):
        shown = CliRunner().invoke(cli, [*words, *(["--format", "json"] * (words[0] == "log"))])
        assert shown.exit_code == 0, shown.output
    return [f"{line['text']}  {line['arguments']}" for line in json.loads(shown.output)]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("openat(-100, 0, 0o101, 0o644) = 3", "openat(AT_FDCWD, NULL, O_WRONLY|O_CREAT, 0644) = 3"),
        ("pipe2(0x1000, 0o2000000) = 0", "pipe2(0x1000, O_CLOEXEC) = 0"),
        ("setpriority(0, 7, -5) = 0", "setpriority(PRIO_PROCESS, 7, -5) = 0"),
        ("setresuid(-1, 1000, -1) = 0", "setresuid(-1, 1000, -1) = 0"),
        ("shmget(0, 8K, 0o1600) = 1", "shmget(0, 8K, IPC_CREAT|0600) = 1"),
        ("shmat(1, 0, 0o10000) = 0x1000", "shmat(1, NULL, SHM_RDONLY) = 0x1000"),
        ("mq_unlink(0x1000) = -ENOSYS", "mq_unlink(0x1000) = -ENOSYS"),
        ("epoll_ctl(3, 1, 4, 0) = 0", "epoll_ctl(3, EPOLL_CTL_ADD, 4, NULL) = 0"),
        ("eventfd2(0, 0o2000001) = 3", "eventfd2(0, EFD_SEMAPHORE|EFD_CLOEXEC) = 3"),
    ],
)
def test_arguments_in_words(tmp_path: Path, call: str, text: str) -> None:
    (shown,) = log(tmp_path, f"10 t1 {call}")
    assert shown.startswith(f"{text}  ")


def test_arguments_of_a_call_that_nobody_knows(tmp_path: Path) -> None:
    row = "row syscalls nr=1000 a0=0 a1=0x10 {} ret=-38 outcome=returned".format(
        " ".join(f"a{i}=0" for i in range(2, 6))
    )
    (shown,) = log(tmp_path, f"10 t1 {row}")
    assert shown == "syscall_1000(0, 0x10) = -ENOSYS  {'a0': '0', 'a1': '0x10'}"


def test_every_call_of_the_kernel_model_has_words(tmp_path: Path) -> None:
    names = [call.name for call in CALLS.values() if call.name not in CLONES]
    shown = log(tmp_path, *(f"{10 + i} t1 {name}() = 0" for i, name in enumerate(names)))
    assert len(shown) == len(names)
    for name, line in zip(names, shown, strict=True):
        text, _, told = line.partition("  {")
        assert text.startswith(f"{name}(")
        for argument in SYSCALLS[name].arguments:
            assert f"'{argument.name}': " in told, line


def told(tmp_path: Path, *lines: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """What log says of a listing: exit code, and text without places and tasks."""
    (tmp_path / "a.md").write_text("```run\nt1 boot\n" + "\n".join(lines) + "\n```")
    out = tmp_path / "a.run"
    assert run(["build", str(tmp_path / "a.md"), "-o", str(out), "--force"]) == 0
    return run(["log", str(out), *options]), str(out)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ("exec_done -2", "exec_done = -ENOENT"),
        ("exec_done", "exec_done"),
        ("vfork_done 1", "vfork_done: task 1 goes on"),
        ("mm_dropped 2", "mm_dropped users=2"),
        ("fatal SIGTERM code=0", "killed by SIGTERM {si_code=SI_USER}"),
        ("fatal SIGILL code=1", "killed by SIGILL {si_code=ILL_ILLOPC}"),
        ("deliver SIGCHLD code=2 handler=0x1000", "SIGCHLD {si_code=CLD_KILLED} -> handler 0x1000"),
        ("fatal SIGSEGV code=99", "killed by SIGSEGV {si_code=99}"),
        (
            "row mappings op=map shadow_stack=true length=4K ret=-17",
            "map shadow stack 4K = -EEXIST",
        ),
        (
            "row mappings op=map shadow_stack=true hint=0x5000 length=4K ret=-17",
            "map shadow stack 0x5000+4K = -EEXIST",
        ),
    ],
)
def test_what_happened_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], event: str, text: str
) -> None:
    code, _ = told(tmp_path, f"10 t1 {event}")
    assert code == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("10.")]
    assert line.split(maxsplit=2)[2].removesuffix(" frame -") == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--tid 999", "error: --tid 999: the run has no such task\n  hint: tasks: 1\n"),
        ("--around 2000.1", "error: --around 2000.1: the run ends at 10.0\n"),
    ],
)
def test_what_the_run_does_not_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    code, _ = told(tmp_path, "10 t1 getpid() = 1", options=tuple(options.split()))
    assert (code, capfd.readouterr().err.partition("error")[2]) == (
        2,
        message.partition("error")[2],
    )
