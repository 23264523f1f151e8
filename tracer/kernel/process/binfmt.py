"""Find the program that execve runs: follow `#!` lines, then parse the ELF file and its ld.so.

As fs/binfmt_script.c and fs/binfmt_elf.c do up to the point of no return.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.errors import BadProgram
from shstk.tracer import elf
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.tree import sandbox
from shstk.tracer.kernel.tree.hosttree import raw, text
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, ExecFile

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_BUFFER: Final = 256  # BINPRM_BUF_SIZE: only these bytes are searched for a #! line
_SHEBANG: Final = re.compile(rb"#![ \t]*([^ \t]+)([ \t]*)(.*?)[ \t]*", re.DOTALL)
_SCRIPTS_DEEP: Final = 5  # depth of scripts run by scripts; one more is ELOOP


class NotRunnable(BadProgram):
    """A message for the user, and execve(2)'s errno."""

    def __init__(self, errno: str, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.errno = errno


class Program(NamedTuple):
    """name: the path passed to execve. file: the ELF file at that path, or named by `#!` lines."""

    name: bytes
    file: ExecFile
    image: elf.Image
    argv: tuple[bytes, ...]
    interpreter: tuple[ExecFile, elf.Image] | None  # ld.so


def find(
    k: Kernel, t: Task, file: ExecFile, path: str, argv: tuple[bytes, ...], dirfd: int = AT_FDCWD
) -> Program:
    """The program that is run for `file`, which was opened as `path`. Raises NotRunnable, and the
    Errnos of open_exec."""
    given = k.sandbox.given
    at = name = raw(_name(path, dirfd))
    for _ in range(_SCRIPTS_DEEP + 1):
        if not file.data.startswith(b"#!"):
            break
        script, words = given(file.guest_path), _first_line(k, file)
        argv = (*words, at, *argv[1:])
        at = words[0]
        file = _open_interpreter(k, t, script, text(at))
    else:
        raise NotRunnable("ELOOP", f"{given(path)}: more than {_SCRIPTS_DEEP} #! lines in a row")
    image = _parse(k, file, "ENOEXEC")
    return Program(name, file, image, argv, _interpreter(k, t, file, image))


def _name(path: str, dirfd: int) -> str:
    """bprm->filename: for AT_EXECFN, the task's name, and the argument passed to a script."""
    if path.startswith("/") or dirfd & 0xFFFF_FFFF == AT_FDCWD:
        return path
    return f"/dev/fd/{dirfd & 0xFFFF_FFFF}" + (f"/{path}" if path else "")


def _first_line(k: Kernel, script: ExecFile) -> tuple[bytes, ...]:
    """The interpreter, and the rest of the line as one argument."""
    name, start = k.sandbox.given(script.guest_path), script.data[:_BUFFER]
    ends = len(start) < _BUFFER or b"\n" in start or b"\0" in start
    words = _SHEBANG.fullmatch(start.split(b"\n")[0].split(b"\0")[0])
    if words is None:
        raise NotRunnable("ENOEXEC", f"{name}: its #! line names no interpreter")
    if not ends and not words[2]:
        raise NotRunnable("ENOEXEC", f"{name}: its #! line is longer than {_BUFFER} bytes")
    return (words[1], words[3]) if words[3] else (words[1],)


def _open_interpreter(k: Kernel, t: Task, program: str, path: str) -> ExecFile:
    """The interpreter of a script, or a program's ld.so."""
    try:
        return sandbox.open_exec(k, t, path)
    except Errno as error:
        missing = error.name == "ENOENT"
        raise NotRunnable(
            error.name,
            f"{program}: its interpreter {path} "
            + ("is not there" if missing else f"can't be opened: {error.name}"),
            "the guest's / is the tree of --root"
            if k.sandbox.root.origin is not None
            else "the guest sees no file of the host but its program: --root DIR gives it a tree"
            " (an unpacked riscv64 system)",
        ) from None


def _parse(k: Kernel, file: ExecFile, errno: str) -> elf.Image:
    try:
        return elf.parse(file.data, k.sandbox.given(file.guest_path))
    except BadProgram as error:
        raise NotRunnable(errno, error.what, error.hint) from None


def _interpreter(
    k: Kernel, t: Task, program: ExecFile, image: elf.Image
) -> tuple[ExecFile, elf.Image] | None:
    if image.interpreter is None:
        return None
    file = _open_interpreter(k, t, k.sandbox.given(program.guest_path), image.interpreter)
    return file, _parse(k, file, "ELIBBAD")
