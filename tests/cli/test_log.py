"""log: a system call is shown with its arguments in words, in JSON by their names too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

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
