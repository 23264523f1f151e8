"""/proc/PID/pagemap: 8 bytes for each page of an address space (fs/proc/task_mmu.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE, SEEK_CUR
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.regular import seek_to
from shstk.tracer.kernel.mm.layout import TASK_SIZE
from shstk.tracer.kernel.proc.procfs import ProcFile
from shstk.tracer.kernel.task import Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm

_ENTRY: Final = 8
_MOST: Final = 1 << 16  # bytes that a read returns at once
_PRESENT, _SWAPPED, _OF_FILE, _GUARD = 1 << 63, 1 << 62, 1 << 61, 1 << 58  # PM_*
_BY_LOOK: Final = (0, 0, _PRESENT | _OF_FILE, _PRESENT)  # of AddressSpace.look


class PageMap(OpenFile):
    """Without the numbers of page frames, which take CAP_SYS_ADMIN."""

    positioned = True
    splices_in = False
    splices_out = False

    def __init__(self, inode: ProcFile, flags: int, path: str, task: Task) -> None:
        super().__init__(inode, flags, path)
        self.mm: Mm | None = task.mm

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        mm = self.mm
        if mm is None or not mm.users:
            return b""
        if offset % _ENTRY or n % _ENTRY:
            raise Errno("EINVAL")
        start = offset // _ENTRY * PAGE
        end = min(start + min(n, _MOST) // _ENTRY * PAGE, TASK_SIZE)
        if start >= end:
            return b""
        entries = [_BY_LOOK[byte] for byte in mm.space.look(start, end - start)]
        for page in mm.guards_in(start, end):
            entries[(page - start) // PAGE] = _SWAPPED | _GUARD
        return struct.pack(f"<{len(entries)}Q", *entries)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return self.peek_at(k, t, n, self.pos)

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        if whence > SEEK_CUR:
            raise Errno("EINVAL")
        self.pos = seek_to(self.pos, 0, offset, whence)
        return self.pos

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request & 0xC000_FFFF == _SCAN:
            k.limit("ioctl", "no PAGEMAP_SCAN")
        raise Errno("ENOTTY")


_SCAN: Final = 0xC000_6610  # _IOWR('f', 16, struct pm_scan_arg)
