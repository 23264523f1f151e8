"""One command line, run by shstk and by qemu-user: what it printed, how it ended, what it left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

QEMU = shutil.which("qemu-riscv64")
# What both guests are told, besides PATH.
DATE = "1700000000 +0000"
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
    "GIT_AUTHOR_DATE": DATE,
    "GIT_COMMITTER_DATE": DATE,
}
SECONDS = 300


@dataclass(frozen=True)
class Command:
    run: list[str]
    stdin: str = ""
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """status: as a shell gives it, 128 + signal for a program that was killed."""

    status: int
    stdout: bytes
    files: dict[str, bytes | str | None]  # contents; a symlink's target; None for a directory
    stderr: bytes = field(compare=False)


COMMANDS = {
    name: Command(**table)
    for name, table in tomllib.loads(Path(__file__).with_name("commands.toml").read_text()).items()
}


def by_shstk(command: Command, root: Path, work: Path) -> Answer:
    lay_out(command, work)
    options = ["--root", root, "--bind", f"{work}:/work:rw", "--cwd", "/work"]
    for name, value in {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}.items():
        options += ["--env", f"{name}={value}"]
    program = f"/usr/bin/{command.run[0]}"
    line = [sys.executable, "-m", "shstk", "exec", *options, program, *command.run[1:]]
    return _run(command, line, work, dict(os.environ), work)


def by_qemu(command: Command, root: Path, work: Path, programs: Path) -> Answer:
    """programs: from `wrappers`; the children that a program under qemu-user executes."""
    lay_out(command, work)
    assert QEMU is not None
    name = command.run[0]
    line = [QEMU, "-L", root, "-0", name, root / "usr/bin" / name, *command.run[1:]]
    return _run(command, line, work, {**ENVIRONMENT, "PATH": str(programs)}, work)


def wrappers(root: Path, directory: Path) -> Path:
    """Every program of the tree, as a script of the host's that runs it under qemu-user.

    qemu-user hands execve to the host's kernel, which would look for the host's own programs.
    """
    directory.mkdir()
    for program in (root / "usr/bin").iterdir():
        script = directory / program.name
        if program.is_file() and program.read_bytes().startswith(b"#!"):
            script.symlink_to(program)
            continue
        script.write_text(f'#!/bin/sh\nexec {QEMU} -L {root} -0 {program.name} {program} "$@"\n')
        script.chmod(0o755)
    return directory


def lay_out(command: Command, work: Path) -> None:
    work.mkdir()
    for name, text in command.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _run(
    command: Command, line: list[str | Path], work: Path, env: dict[str, str], cwd: Path
) -> Answer:
    done = subprocess.run(
        line, input=command.stdin.encode(), capture_output=True, cwd=cwd, env=env, timeout=SECONDS
    )
    status = 128 - done.returncode if done.returncode < 0 else done.returncode
    left = {str(path.relative_to(work)): _holds(path) for path in sorted(work.rglob("*"))}
    return Answer(status, done.stdout, left, done.stderr)


def _holds(path: Path) -> bytes | str | None:
    if path.is_symlink():
        return os.readlink(path)
    return path.read_bytes() if path.is_file() else None
