"""The settings of a terminal in the three forms that programs use (drivers/tty/tty_ioctl.c):
struct termios, System V's struct termio, and struct termios2, which has speeds as numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    TCGETA,
    TCGETS,
    TCGETS2,
    TCSETA,
    TCSETAF,
    TCSETAW,
    TCSETS,
    TCSETS2,
    TCSETSF,
    TCSETSF2,
    TCSETSW,
    TCSETSW2,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tty.discipline import TERMIOS

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

TCION: Final = 3  # the last request of TCXONC
_TERMIO: Final = struct.Struct("<4HB8sx")  # iflag, oflag, cflag, lflag, line, cc
_SPEEDS: Final = struct.Struct("<2I")  # of termios2, after struct termios: input, output
_CBAUD, _BOTHER = 0x100F, 0x1000
# Baud rates by CBAUD, from 0 and from 0x1001 on.
_SLOW: Final = (0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400)
_FAST: Final = (57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000)


class _Form(NamedTuple):
    """pack: from a struct termios. unpack: to one, from the old one and what the guest stored."""

    size: int
    pack: Callable[[bytes], bytes]
    unpack: Callable[[bytes, bytes], bytes]


def _to_termio(termios: bytes) -> bytes:
    *flags, line, cc = TERMIOS.unpack(termios)
    return _TERMIO.pack(*(flag & 0xFFFF for flag in flags), line, cc[:8])


def _from_termio(old: bytes, data: bytes) -> bytes:
    """The upper halves of the flags, and the characters that termio lacks, are kept."""
    *kept, _, cc = TERMIOS.unpack(old)
    *flags, line, own = _TERMIO.unpack(data)
    flags = [before & ~0xFFFF | flag for before, flag in zip(kept, flags, strict=True)]
    return TERMIOS.pack(*flags, line, own + cc[8:])


def _to_termios2(termios: bytes) -> bytes:
    code = TERMIOS.unpack(termios)[2] & _CBAUD
    fast = code - _BOTHER - 1
    speed = _SLOW[code] if code < len(_SLOW) else _FAST[min(max(fast, 0), len(_FAST) - 1)]
    return termios + _SPEEDS.pack(speed, speed)


_OLD: Final = _Form(_TERMIO.size, _to_termio, _from_termio)
_PLAIN: Final = _Form(TERMIOS.size, lambda termios: termios, lambda old, data: data)
_SECOND: Final = _Form(
    TERMIOS.size + _SPEEDS.size, _to_termios2, lambda old, data: data[: TERMIOS.size]
)
_GET: Final = {TCGETA: _OLD, TCGETS: _PLAIN, TCGETS2: _SECOND}
_SET: Final = {
    **dict.fromkeys((TCSETA, TCSETAW, TCSETAF), _OLD),
    **dict.fromkeys((TCSETS, TCSETSW, TCSETSF), _PLAIN),
    **dict.fromkeys((TCSETS2, TCSETSW2, TCSETSF2), _SECOND),
}
_FLUSHING: Final = (TCSETAF, TCSETSF, TCSETSF2)


class Settings(NamedTuple):
    """A terminal, as its settings see it. apply: called with the new struct termios and whether
    input is to be discarded first. permit: raises unless the caller may change it."""

    termios: bytes
    apply: Callable[[bytes, bool], None]
    permit: Callable[[], None]


def ioctl(k: Kernel, t: Task, settings: Settings, request: int, arg: int) -> bool:
    """Whether it is a request for settings, which has then been done."""
    if request in _GET:
        usermem.put(k, t, arg, _GET[request].pack(settings.termios))
        return True
    if request not in _SET:
        return False
    settings.permit()
    form = _SET[request]
    data = usermem.get(k, t, arg, form.size)
    settings.apply(form.unpack(settings.termios, data), request in _FLUSHING)
    return True


def line_discipline(k: Kernel, t: Task, terminal: object, arg: int) -> int:
    """TIOCGETD: N_TTY is the only one."""
    usermem.put_u32(k, t, arg, 0)
    return 0


def set_line_discipline(k: Kernel, t: Task, terminal: object, arg: int) -> int:
    if usermem.get_u32(k, t, arg):
        raise Errno("EINVAL")
    return 0
