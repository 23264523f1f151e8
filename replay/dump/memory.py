"""The memory of a dumped process: what its dump has, and code from the files that were mapped."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from shstk.replay.derive.regions import Region, Regions
from shstk.schemas.errors import BadRun
from shstk.schemas.links import follows_call
from shstk.schemas.uapi import PROT_EXEC, PROT_WRITE

if TYPE_CHECKING:
    from shstk.replay.run import Run


class Memory:
    """Bytes by address. What is not known is not there, and is no zero."""

    def __init__(self, run: Run, regions: Regions) -> None:
        rows = run.table("dump_memory").select("addr", "length", "bytes").sort("addr")
        self._pieces: list[tuple[int, int, bytes | None]] = list(rows.iter_rows())
        self._starts = [start for start, _, _ in self._pieces]
        self._hashes = dict(run.table("inputs").select("input", "sha256").iter_rows())
        self._run = run
        self._regions = regions
        self._files: dict[int, bytes] = {}
        mms = run.table("dump_areas")["mm"]
        self.mm: int | None = mms[0] if len(mms) else None

    def read(self, address: int, size: int) -> bytes:
        """As many bytes as are known from an address on, at most `size`."""
        found = bytearray()
        while len(found) < size:
            part = self._part(address + len(found), size - len(found))
            if not part:
                break
            found += part
        return bytes(found)

    def word(self, address: int) -> int | None:
        data = self.read(address, 8)
        return int.from_bytes(data, "little") if len(data) == 8 else None

    def region(self, address: int) -> Region | None:
        return self._regions.at(self.mm, address)

    def is_code(self, address: int) -> bool:
        region = self.region(address)
        return region is not None and bool(region.prot & PROT_EXEC) and address % 2 == 0

    def is_return(self, address: int) -> bool:
        """Whether an address is in code, after what may be a call; if the code is not known, what
        may be one is one."""
        if not self.is_code(address):
            return False
        before = self.read(address - 4, 4)
        return follows_call(before) if len(before) == 4 else not self.read(address - 2, 2)

    def file(self, input: int) -> bytes:
        """The bytes of a mapped file; none if the run does not have them."""
        if input not in self._files:
            try:
                self._files[input] = self._run.file(self._hashes[input])
            except (KeyError, BadRun):
                self._files[input] = b""
        return self._files[input]

    def _part(self, address: int, size: int) -> bytes:
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start, length, data = self._pieces[at]
            if address < start + length:
                size = min(size, start + length - address)
                return data[address - start :][:size] if data is not None else bytes(size)
        region = self.region(address)
        if region is None or region.input is None or region.prot & PROT_WRITE:
            return b""
        if at + 1 < len(self._starts):
            size = min(size, self._starts[at + 1] - address)
        begin = region.offset + address - region.start
        return self.file(region.input)[begin : begin + min(size, region.end - address)]
