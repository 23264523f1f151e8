"""Open files of /proc: text files, comm and mem."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from shstk.schemas.uapi import PAGE, SEEK_CUR
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.regular import seek_to
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.proc import procmap
from shstk.tracer.kernel.proc.pagemap import PageMap
from shstk.tracer.kernel.proc.procfs import ProcFile
from shstk.tracer.kernel.proc.proctext import TASK_TEXTS, fd_info, system_text
from shstk.tracer.kernel.task import Task
from shstk.tracer.kernel.tree.hosttree import text

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_COMM_MAX: Final = 15
_NUMBER: Final = re.compile(rb"\+?([0-9]+)\n?")  # kstrtoull()


def open_proc(k: Kernel, inode: ProcFile, flags: int, path: str) -> OpenFile:
    """Errno ESRCH if the task no longer exists."""
    task = None
    if inode.tid:
        task = k.find(inode.tid)
        if task is None:
            raise Errno("ESRCH")
    if inode.name == "mem":
        assert task is not None
        return Mem(inode, flags, path, task)
    if inode.name == "pagemap":
        assert task is not None
        return PageMap(inode, flags, path, task)
    return Text(inode, flags, path, task)


class Text(OpenFile):
    """The text is generated again by each read at position 0."""

    positioned = True
    pollable = False
    nowait = False
    splices_in = False

    def __init__(self, inode: ProcFile, flags: int, path: str, task: Task | None) -> None:
        super().__init__(inode, flags, path)
        self.task = task
        self.splices_out = task is None
        self._text: bytes | None = None

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        if offset == 0 or self._text is None:
            inode = cast(ProcFile, self.inode)
            if self.task is None:
                self._text = system_text(k, inode.name)
            elif inode.fd is not None:
                self._text = fd_info(k, self.task, inode.fd)
            else:
                self._text = TASK_TEXTS[inode.name].write(k, self.task)
        return self._text[offset : offset + n]

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return self.peek_at(k, t, n, self.pos)

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        """comm is writable by the threads of the same process, timerslack_ns by the task itself."""
        if cast(ProcFile, self.inode).name == "timerslack_ns":
            return self._set_slack(t, data)
        if self.task is None or self.task.process is not t.process:
            raise Errno("EINVAL")
        self.task.comm = text(data[:_COMM_MAX].split(b"\0")[0].rstrip(b"\n"))
        return len(data)

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        maps = self.task is not None and cast(ProcFile, self.inode).name == "maps"
        if not maps or request != procmap.PROCMAP_QUERY:
            raise Errno("ENOTTY")
        assert self.task is not None
        return procmap.query(k, t, self.task.mm, arg)

    def _set_slack(self, t: Task, data: bytes) -> int:
        """That of another task takes a capability."""
        assert self.task is not None
        if self.task is not t:
            raise Errno("EPERM")
        number = _NUMBER.fullmatch(data)
        if number is None:
            raise Errno("EINVAL")
        self.task.timer_slack_ns = int(number[1]) or self.task.default_timer_slack_ns
        return len(data)

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        if whence > SEEK_CUR:
            raise Errno("EINVAL")
        self.pos = seek_to(self.pos, 0, offset, whence)
        return self.pos


class Mem(OpenFile):
    """/proc/PID/mem: the address space that the task had at the open.

    FOLL_FORCE overrides page protections, as is mainline's default (CONFIG_PROC_MEM_ALWAYS_FORCE),
    so a shadow stack can be read and written. A shared mapping can be written only where it is
    writable.
    """

    positioned = True
    pollable = False
    splices_out = splices_in = False

    def __init__(self, inode: ProcFile, flags: int, path: str, task: Task) -> None:
        super().__init__(inode, flags, path)
        self.task = task
        self.mm = task.mm

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        if self.mm is None or self.mm is not self.task.mm:
            return b""
        out = bytearray()
        while len(out) < n:
            at = offset + len(out)
            piece = self.mm.space.read(at, min(n - len(out), PAGE - at % PAGE), force=True)
            if piece is None:
                break
            out += piece
        if n and not out:
            raise Errno("EIO")
        usermem.note(k, self.task, "read", offset, bytes(out))
        return bytes(out)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return self.peek_at(k, t, n, self.pos)

    def write_at(self, k: Kernel, t: Task, data: bytes, offset: int) -> int:
        if self.mm is None or self.mm is not self.task.mm:
            return 0
        done = 0
        while done < len(data):
            at = offset + done
            piece = data[done : done + PAGE - at % PAGE]
            vma = self.mm.vmas.find(at)
            private = vma is not None and not vma.shared
            if not self.mm.space.write(at, piece, force=private):
                break
            usermem.note(k, self.task, "write", at, piece)
            done += len(piece)
        if data and not done:
            raise Errno("EIO")
        return done

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        done = self.write_at(k, t, data, self.pos)
        self.pos += done
        return done

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        """Every 64-bit offset is valid (FOP_UNSIGNED_OFFSET): a negative one is a high address."""
        if whence > SEEK_CUR:
            raise Errno("EINVAL")
        self.pos = (offset + (self.pos if whence else 0)) % 2**64
        return self.pos
