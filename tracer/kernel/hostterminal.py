"""The host's terminal, for a guest that has one."""

from __future__ import annotations

import atexit
import fcntl
import os
import termios


class HostTerminal:
    """Descriptors 0 and 1 of this process. Its mode is put back at exit.

    struct termios is the same on every machine that has asm-generic's, which x86 and Arm do.
    """

    def __init__(self) -> None:
        columns, rows = os.get_terminal_size(0)
        self.size = (rows, columns)
        atexit.register(termios.tcsetattr, 0, termios.TCSADRAIN, termios.tcgetattr(0))

    def read(self) -> bytes:
        return os.read(0, 4096)

    def set_attributes(self, attributes: bytes) -> None:
        fcntl.ioctl(0, termios.TCSETSW, attributes)
