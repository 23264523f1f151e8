"""Packets of the remote serial protocol over a pair of file descriptors.

A packet is $DATA#XX with the sum of its bytes. A byte 3 outside of one is gdb's Ctrl-C. What is
neither is ignored, and a packet with a wrong sum is asked for again, as the manual says.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final

INTERRUPT: Final = b"\x03"
_ESCAPED: Final = b"#$}*"
SIZE: Final = 1 << 16  # of a packet, as qSupported says
_MOST: Final = 1 << 20  # bytes of a packet that does not end


class Gone(Exception):
    """The client has closed the connection."""


def escaped(data: bytes) -> bytes:
    """Binary data within a packet."""
    out = bytearray()
    for byte in data:
        if byte in _ESCAPED:
            out += bytes((0x7D, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


class Connection:
    """acknowledged: each packet is answered by + or -, until gdb turns that off. wait: returns when
    a descriptor can be read."""

    def __init__(
        self, reader: int, writer: int, wait: Callable[[int], None] = lambda fd: None
    ) -> None:
        self.acknowledged = True
        self._wait = wait
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()

    def receive(self) -> bytes:
        """The data of the next packet, or INTERRUPT. Raises Gone."""
        while (packet := self._taken()) is None:
            self._wait(self._reader)
            self._fill()
        return packet

    def send(self, data: bytes) -> None:
        """Raises Gone."""
        left = b"$" + data + b"#%02x" % (sum(data) % 256)
        try:
            while left:
                left = left[os.write(self._writer, left) :]
        except OSError:
            raise Gone from None

    def interrupted(self) -> bool:
        """Whether gdb has sent Ctrl-C while it waits for an answer. Raises Gone."""
        while select.select([self._reader], [], [], 0)[0]:
            self._fill()
        at = self._buffer.find(INTERRUPT)
        if at < 0:
            return False
        del self._buffer[: at + 1]
        return True

    def _fill(self) -> None:
        try:
            data = os.read(self._reader, 1 << 16)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self._buffer += data

    def _taken(self) -> bytes | None:
        """The first packet in the buffer, if it is whole."""
        buffer = self._buffer
        while buffer:
            if buffer[0] == INTERRUPT[0]:
                del buffer[0]
                return INTERRUPT
            if buffer[0] != ord("$"):
                del buffer[0]
                continue
            end = buffer.find(b"#")
            if end < 0 or len(buffer) < end + 3:
                if len(buffer) > _MOST:
                    buffer.clear()
                return None
            data, told = bytes(buffer[1:end]), bytes(buffer[end + 1 : end + 3])
            del buffer[: end + 3]
            good = told.lower() == b"%02x" % (sum(data) % 256)
            if self.acknowledged:
                self._acknowledge(good)
            if good or not self.acknowledged:
                return data
        return None

    def _acknowledge(self, good: bool) -> None:
        try:
            os.write(self._writer, b"+" if good else b"-")
        except OSError:
            raise Gone from None
