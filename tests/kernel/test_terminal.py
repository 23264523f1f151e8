"""A terminal instead of the three pipes."""

from __future__ import annotations

import os
import pty
import struct
from pathlib import Path

import pytest
import riscv_asm
from direct import Direct

from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.tracer.guest import execute
from shstk.tracer.kernel.tty.terminal import Typed, terminal_files
from shstk.tracer.options import GuestOptions
from shstk.tracer.record import RecordOptions, record

TCGETS, TCSETS, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ = 0x5401, 0x5402, 0x540F, 0x5410, 0x5413


@pytest.fixture
def d() -> Direct:
    direct = Direct()
    direct.k.terminal = Typed(b"one\ntwo\nend", size=(50, 132))
    for fd, file in enumerate(terminal_files(direct.k)):
        direct.t.files.replace(direct.k, fd, file, cloexec=False)
    return direct


def test_pipes_are_no_terminal() -> None:
    direct = Direct(stdin=b"x")
    assert direct.call("ioctl", 0, TCGETS, direct.room(64)) == "ENOTTY"
    assert direct.open("/dev/tty", 2) == "ENXIO"


def test_a_read_is_a_line_and_the_end_is_an_end(d: Direct) -> None:
    assert [d.read(0, 2), d.read(0), d.read(0), d.read(0), d.read(0)] == [
        *(b"on", b"e\n", b"two\n", b"end", b"")
    ]


def test_without_lines_a_read_is_what_there_is(d: Direct) -> None:
    at = d.room(36)
    assert d.call("ioctl", 0, TCGETS, at) == 0
    flags = list(struct.unpack("<4I", d.get(at, 16)))
    flags[3] &= ~2
    assert d.call("ioctl", 0, TCSETS, struct.pack("<4I", *flags) + d.get(at + 16, 20)) == 0
    assert d.read(0) == b"one\ntwo\nend"
    assert d.call("ioctl", 2, TCGETS, at) == 0
    assert struct.unpack("<4I", d.get(at, 16))[3] == flags[3]


def test_size_and_foreground(d: Direct) -> None:
    at = d.room(8)
    assert d.call("ioctl", 1, TIOCGWINSZ, at) == 0
    assert struct.unpack("<4H", d.get(at, 8)) == (50, 132, 0, 0)
    assert d.call("ioctl", 1, TIOCGPGRP, at) == 0
    assert struct.unpack("<i", d.get(at, 4)) == (d.t.process.pgid,)
    assert d.call("ioctl", 1, TIOCSPGRP, struct.pack("<i", 9999)) == "ESRCH"


def test_its_names_lead_to_it(d: Direct) -> None:
    tty = d.open("/dev/tty", 2)
    assert d.read(tty) == b"one\n"
    assert d.write(tty, b"shown") == 5
    assert d.write(2, b"error") == 5
    assert d.output == [(1, b"shown"), (2, b"error")]
    at = d.room(64)
    n = d.at("readlinkat", "/proc/self/fd/0", at, 64)
    assert d.get(at, n) == b"/dev/pts/0"
    assert d.stat("/dev/pts/0")["rdev"] == 0x8800


def test_the_hosts_terminal(tmp_path: Path) -> None:
    """Run cat in a child process on a pseudo-terminal, until a ^D."""
    options = GuestOptions(str(_cat(tmp_path)), tty=True, on_output=_write)
    pid, master = pty.fork()
    if pid == 0:
        os._exit(execute(options).exit_code or 0)
    os.write(master, b"typed\n\x04")
    shown = b""
    try:
        while piece := os.read(master, 100):
            shown += piece
    except OSError:  # EIO: the other side is closed
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert shown == b"typed\r\ntyped\r\n"


def test_nobody_types_any_more(tmp_path: Path) -> None:
    """The time limit ends a guest that waits for input, and its run can be replayed."""
    out = tmp_path / "cat.run"
    options = RecordOptions(
        program=str(_cat(tmp_path)), out=out, tty=True, timeout=0.5, on_output=_write
    )
    pid, master = pty.fork()
    if pid == 0:
        os._exit(["timeout"].index(record(options).ending))
    os.write(master, b"typed\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(master)
    run = Run.open(out)
    assert run.arrow("typed")["bytes"].to_pylist() == [b"typed\n"]
    assert replay(run).disagreement is None


def _cat(folder: Path) -> Path:
    guest = folder / "cat"
    guest.write_bytes(
        riscv_asm.program("""
        again: sys 63, 0, buffer, 64
        bge zero, a0, out
        mv a2, a0
        li a1, buffer
        li a0, 1
        sys 64
        j again
        out: exit 3
        .align 8
        buffer: .zero 64
        """)
    )
    return guest


def _write(fd: int, data: bytes) -> None:
    os.write(fd, data)
