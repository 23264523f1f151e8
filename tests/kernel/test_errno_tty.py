"""Requests of ioctl(2): which error comes first, and the forms of a terminal's settings."""

from __future__ import annotations

import struct

import pytest
from stage import Stage, hold, table

from shstk.schemas import uapi
from shstk.tracer.kernel.tty.discipline import COOKED, TERMIOS

ERRORS = """
ioctl closed TCGETS bad                 EBADF
ioctl path TCGETS bad                   EBADF
ioctl slave TCGETS bad                  EFAULT
ioctl slave TCGETA bad                  EFAULT
ioctl slave TCGETA null                 EFAULT
ioctl slave TCSETA bad                  EFAULT
ioctl slave TCSETS edge                 EFAULT
ioctl slave TCGETS2 bad                 EFAULT
ioctl slave 9999999 room                ENOTTY
ioctl file TCGETA bad                   ENOTTY
ioctl dir TCGETS bad                    ENOTTY
ioctl pipe_r TCGETS bad                 ENOTTY
ioctl devnull TCGETS bad                ENOTTY
ioctl eventfd TCGETS bad                ENOTTY
ioctl slave TCSBRK 0                    0
ioctl slave TCSBRK 1                    0
ioctl slave TCSBRKP 5                   0
ioctl slave TCXONC 4                    EINVAL
ioctl slave TCXONC 1                    0
ioctl slave TCFLSH 3                    EINVAL
ioctl slave TCFLSH 2                    0
ioctl slave TIOCGETD bad                EFAULT
ioctl slave TIOCSETD i32:5              EINVAL
ioctl slave TIOCGPGRP room              ENOTTY  # it is not the controlling terminal
ioctl slave TIOCGSID room               ENOTTY
ioctl slave TIOCSPGRP i32:5             ENOTTY
ioctl slave TIOCGPTN room               ENOTTY  # the master's
ioctl tty TIOCGPTN bad                  EFAULT
ioctl file FIONBIO bad                  EFAULT
ioctl file FIOASYNC bad                 EFAULT
ioctl file FIOASYNC i32:1               ENOTTY
ioctl file FIONREAD bad                 EFAULT
ioctl file FIOQSIZE bad                 EFAULT
ioctl pipe_r FIOQSIZE room              ENOTTY
ioctl file FIGETBSZ room                0
ioctl file FICLONE file                 EOPNOTSUPP
ioctl file FS_IOC_FIEMAP bad            EOPNOTSUPP
ioctl pipe_r FIONREAD bad               EFAULT
"""


def made() -> Stage:
    stage = Stage()
    master, number = stage.words["tty"], stage.words["room"]
    assert stage.call("ioctl", master, uapi.TIOCGPTN, number) == 0
    assert stage.call("ioctl", master, uapi.TIOCSPTLCK, bytes(4)) == 0
    path = f"/dev/pts/{struct.unpack('<I', stage.get(number, 4))[0]}"
    stage.words["slave"] = stage.open(path, uapi.O_RDWR | uapi.O_NOCTTY)
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(ERRORS)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def asked(stage: Stage, request: int, size: int) -> bytes:
    room = stage.words["room"]
    assert stage.call("ioctl", stage.words["slave"], request, room) == 0
    return stage.get(room, size)


def test_settings_in_system_vs_form(stage: Stage) -> None:
    """struct termio has the lower halves of the flags, and eight characters; the rest is kept."""
    iflag, oflag, cflag, lflag, line, cc = TERMIOS.unpack(COOKED)
    old = asked(stage, uapi.TCGETA, 18)
    assert struct.unpack("<4HB8sx", old) == (iflag, oflag, cflag, lflag, line, cc[:8])
    wide = TERMIOS.pack(iflag | 1 << 16, oflag, cflag, lflag, line, cc)
    slave = stage.words["slave"]
    assert stage.call("ioctl", slave, uapi.TCSETS, wide) == 0
    new = struct.pack("<4HB8sx", 0, oflag, cflag, lflag, line, b"x" * 8)
    assert stage.call("ioctl", slave, uapi.TCSETAF, new) == 0
    kept = TERMIOS.pack(1 << 16, oflag, cflag, lflag, line, b"x" * 8 + cc[8:])
    assert asked(stage, uapi.TCGETS, 36) == kept


def test_settings_with_speeds(stage: Stage) -> None:
    assert asked(stage, uapi.TCGETS2, 44) == COOKED + struct.pack("<2I", 38400, 38400)
    raw = TERMIOS.pack(0, 0, 0xB2 & ~0xF | 0x1002, 0, 0, bytes(19))
    assert stage.call("ioctl", stage.words["slave"], uapi.TCSETSW2, raw + bytes(8)) == 0
    assert asked(stage, uapi.TCGETS, 36) == raw
    assert asked(stage, uapi.TCGETS2, 44)[36:] == struct.pack("<2I", 115200, 115200)
