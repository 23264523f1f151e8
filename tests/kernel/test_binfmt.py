"""execve: `#!` lines by Linux's rules, and files that are not programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import riscv_asm
from direct import Direct

from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.process import binfmt
from shstk.tracer.kernel.tree import sandbox


def run(tmp_path: Path, files: dict[str, bytes], path: str, *argv: bytes) -> Any:
    """(argv, name) of the program that execve of `path` runs, or the errno."""
    for name, data in {"prog": riscv_asm.program("exit 0"), **files}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o755)
    d = Direct(tmp_path)
    try:
        file = sandbox.open_exec(d.k, d.t, path)
        program = binfmt.find(d.k, d.t, file, path, (path.encode(), *argv))
    except binfmt.NotRunnable as error:
        return error.errno
    except Errno as error:
        return error.name
    return program.argv, program.name


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"#!/prog\n", ()),
        (b"#! \t/prog  \t\nrest", ()),
        (b"#!/prog one\n", (b"one",)),
        (b"#!/prog  one two \t\n", (b"one two",)),
        (b"#!/prog", ()),
        (b"#!/prog\0x y\n", ()),
        (b"#!/prog " + b"a" * 400, (b"a" * 248,)),
    ],
)
def test_scripts(tmp_path: Path, line: bytes, words: tuple[bytes, ...]) -> None:
    found = run(tmp_path, {"s": line}, "/s", b"x", b"y")
    assert found == ((b"/prog", *words, b"/s", b"x", b"y"), b"/s")


@pytest.mark.parametrize(
    ("line", "errno"),
    [
        (b"#!\n", "ENOEXEC"),
        (b"#! \t \n", "ENOEXEC"),
        (b"#!/" + b"p" * 300, "ENOEXEC"),
        (b"#!/missing\n", "ENOENT"),
        (b"#!/s\n", "ELOOP"),
        (b"echo no line at all\n", "ENOEXEC"),
        (b"", "ENOEXEC"),
    ],
)
def test_refused(tmp_path: Path, line: bytes, errno: str) -> None:
    assert run(tmp_path, {"s": line}, "/s") == errno


def test_five_scripts_in_a_row_and_no_more(tmp_path: Path) -> None:
    files = {f"s{n}": f"#!/s{n - 1} {n}\n".encode() for n in range(2, 7)} | {"s1": b"#!/prog\n"}
    argv, _ = run(tmp_path, files, "/s5")
    assert argv == (b"/prog", b"/s1", b"2", b"/s2", b"3", b"/s3", b"4", b"/s4", b"5", b"/s5")
    assert run(tmp_path, files, "/s6") == "ELOOP"


def test_a_file_that_may_not_be_executed(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(riscv_asm.program("exit 0"))
    (tmp_path / "plain").chmod(0o644)
    d = Direct(tmp_path)
    with pytest.raises(Errno, match="EACCES"):
        sandbox.open_exec(d.k, d.t, "/plain")
