"""The host's terminal, for a guest with a controlling terminal."""

from __future__ import annotations

import atexit
import fcntl
import os
import select
import termios
from collections.abc import Callable
from typing import Final

_PATIENCE: Final = 0.1  # seconds between two checks whether the run should end


class HostTerminal:
    """Descriptors 0 and 1 of this process. The terminal's mode is restored at exit.

    The guest's struct termios is asm-generic's, which x86 and Arm use too.
    given_up: returns whether the run should end; called while no input arrives.
    """

    def __init__(self, given_up: Callable[[], bool]) -> None:
        self._given_up = given_up
        columns, rows = os.get_terminal_size(0)
        self.size = (rows, columns)
        atexit.register(termios.tcsetattr, 0, termios.TCSADRAIN, termios.tcgetattr(0))

    def read(self) -> bytes | None:
        while not select.select([0], [], [], _PATIENCE)[0]:
            if self._given_up():
                return None
        return os.read(0, 4096)

    def set_attributes(self, attributes: bytes) -> None:
        fcntl.ioctl(0, termios.TCSETSW, attributes)
