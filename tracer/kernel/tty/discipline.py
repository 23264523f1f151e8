"""The line discipline of a pseudo-terminal: input processing, line editing and echo (termios(3),
drivers/tty/n_tty.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from shstk.schemas.uapi import SIGNALS

TERMIOS: Final = struct.Struct("<4IB19s")  # iflag, oflag, cflag, lflag, line, cc
# The settings of a new terminal on Linux (tty_std_termios), with IUTF8.
COOKED: Final = TERMIOS.pack(
    0x4500, 5, 0xBF, 0x8A3B, 0, bytes.fromhex("031c7f150400010011131a00120f1716000000")
)
INLCR, IGNCR, ICRNL, IXON = 0x40, 0x80, 0x100, 0x400  # of iflag
OPOST, ONLCR = 1, 4  # of oflag
ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL = 1, 2, 8, 0x10, 0x20, 0x40  # of lflag
NOFLSH, TOSTOP, ECHOCTL, IEXTEN = 0x80, 0x100, 0x200, 0x8000
VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN = range(7)  # of cc
VSTART, VSTOP, VSUSP, VEOL, VWERASE, VLNEXT, VEOL2 = 8, 9, 10, 11, 14, 15, 16
_SIGNAL: Final = {VINTR: "SIGINT", VQUIT: "SIGQUIT", VSUSP: "SIGTSTP"}
_LF, _CR, _TAB = 10, 13, 9
LINE_MAX: Final = 4095  # bytes in the line that is being edited


@dataclass
class Discipline:
    """lines: the input that can be read; in canonical mode each element is a line, and an empty one
    is an end of file. line: the line being edited. echoed: the echo for the master."""

    termios: bytes = COOKED
    lines: list[bytes] = field(default_factory=list)
    line: bytearray = field(default_factory=bytearray)
    echoed: bytearray = field(default_factory=bytearray)
    literal: bool = False  # after VLNEXT: take the next byte literally

    @property
    def lflag(self) -> int:
        flags: int = TERMIOS.unpack(self.termios)[3]
        return flags

    @property
    def canonical(self) -> bool:
        return bool(self.lflag & ICANON)

    def cc(self, index: int) -> int:
        characters: bytes = TERMIOS.unpack(self.termios)[5]
        return characters[index]

    def set(self, termios: bytes) -> None:
        """Leaving canonical mode makes the line being edited readable."""
        self.termios = termios
        if not self.canonical:
            if self.line:
                self.lines.append(bytes(self.line))
                self.line.clear()
            self.lines = [data for data in self.lines if data]

    def typed(self, data: bytes) -> list[int]:
        """Process input from the master; return the signals for the foreground group."""
        signals = []
        for byte in data:
            if (signo := self._byte(byte)) is not None:
                signals.append(signo)
        return signals

    def shown(self, data: bytes) -> bytes:
        """Output as the master reads it (OPOST)."""
        oflag = TERMIOS.unpack(self.termios)[1]
        return data.replace(b"\n", b"\r\n") if oflag & OPOST and oflag & ONLCR else data

    def available(self) -> int:
        return sum(map(len, self.lines))

    def peek(self, n: int) -> bytes:
        """Up to n bytes; in canonical mode no more than a line."""
        if self.canonical:
            return self.lines[0][:n] if self.lines else b""
        return b"".join(self.lines)[:n]

    def advance(self, n: int) -> None:
        while self.lines and (n or not self.lines[0]):
            first = self.lines.pop(0)
            if n < len(first):
                self.lines.insert(0, first[n:])
                return
            n -= len(first)
            if not n:
                return

    def flush(self) -> None:
        self.lines.clear()
        self.line.clear()

    def _byte(self, byte: int) -> int | None:
        iflag, lflag = TERMIOS.unpack(self.termios)[0], self.lflag
        if self.literal:
            self.literal = False
            self._take(byte)
            return None
        if byte == _CR:
            if iflag & IGNCR:
                return None
            byte = _LF if iflag & ICRNL else byte
        elif byte == _LF and iflag & INLCR:
            byte = _CR
        if iflag & IXON and byte and byte in (self.cc(VSTART), self.cc(VSTOP)):
            return None
        if lflag & ISIG:
            for index, name in _SIGNAL.items():
                if byte and byte == self.cc(index):
                    if not lflag & NOFLSH:
                        self.flush()
                    self._echo(byte)
                    return SIGNALS[name]
        if lflag & ICANON:
            self._edit(byte)
        else:
            self._take(byte)
        return None

    def _edit(self, byte: int) -> None:
        lflag = self.lflag
        if byte and byte == self.cc(VERASE):
            self._erase(1)
        elif byte and byte == self.cc(VWERASE) and lflag & IEXTEN:
            text = self.line.rstrip()
            kept = max(text.rfind(b" "), text.rfind(b"\t")) + 1
            self._erase(len(self.line) - kept)
        elif byte and byte == self.cc(VKILL):
            self._erase(len(self.line))
        elif byte and byte == self.cc(VLNEXT) and lflag & IEXTEN:
            self.literal = True
        elif byte and byte == self.cc(VEOF):
            self._end_line()
        elif byte == _LF or (byte and byte in (self.cc(VEOL), self.cc(VEOL2))):
            self.line.append(byte)
            if lflag & (ECHO | ECHONL):
                self.echoed += self.shown(bytes([byte]))
            self._end_line()
        else:
            self._take(byte)

    def _end_line(self) -> None:
        self.lines.append(bytes(self.line))
        self.line.clear()

    def _take(self, byte: int) -> None:
        if not self.canonical:
            self.lines.append(bytes([byte]))
        elif len(self.line) < LINE_MAX:
            self.line.append(byte)
        self._echo(byte)

    def _echo(self, byte: int) -> None:
        if self.lflag & ECHO:
            control = (byte < 32 and byte not in (_LF, _TAB)) or byte == 127
            if control and self.lflag & ECHOCTL:
                self.echoed += bytes([ord("^"), byte ^ 0x40])
            else:
                self.echoed += self.shown(bytes([byte]))

    def _erase(self, count: int) -> None:
        """Erase the last `count` characters; a UTF-8 sequence is one character."""
        for _ in range(count):
            if not self.line:
                return
            while len(self.line) > 1 and self.line[-1] & 0xC0 == 0x80:
                self.line.pop()
            byte = self.line.pop()
            if self.lflag & ECHO:
                width = 2 if byte < 32 and self.lflag & ECHOCTL else 1
                self.echoed += b"\b \b" * width if self.lflag & ECHOE else bytes([self.cc(VERASE)])
