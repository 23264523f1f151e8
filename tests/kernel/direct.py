"""Calls the handlers of the kernel model directly, for a booted task that runs no instruction."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import riscv_asm
from guest_run import Rows

from shstk.schemas.revisions import resolve
from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE
from shstk.tracer._core import Machine
from shstk.tracer.kernel.boot import boot
from shstk.tracer.kernel.call import Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.kernel import Kernel
from shstk.tracer.kernel.table import CALLS
from shstk.tracer.kernel.task import Blocked, InCall, Task
from shstk.tracer.kernel.tree.mounts import host_mounts
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, Sandbox

BY_NAME = {call.name: call for call in CALLS.values()}
SCRATCH = 1 << 20


class InputRows(Rows):
    """Also keeps the inputs: (guest path, bytes, mode)."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[tuple[str, bytes, int]] = []

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        self.inputs.append((guest_path, bytes(data), mode))
        return len(self.inputs)


class Direct:
    """`call(name, *arguments)`: bytes are stored to guest memory and passed by address.

    An errno is returned as its name, a Wait or a restart unchanged.
    """

    def __init__(self, root: Path | None = None, stdin: bytes = b"", kernel: str = "7.2") -> None:
        self.rows = InputRows()
        self.output: list[tuple[int, bytes]] = []
        sandbox = Sandbox(host_mounts(root), stdin)
        self.k = Kernel(
            Machine(),
            self.rows,
            resolve(kernel),
            sandbox,
            stdout_write=lambda fd, data: self.output.append((fd, data)),
        )
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory, "guest")
            program.write_bytes(riscv_asm.program("exit 0"))
            self.t = boot(self.k, sandbox.place(str(program)), (b"guest", b"-x"), (b"A=1",), {})
        assert self.t.mm is not None
        self.mm = self.t.mm
        self.base = self.mm.map(self.k, 0, SCRATCH, 3, MAP_PRIVATE | MAP_ANONYMOUS)
        self.next = self.base
        self.rows.tables.clear()

    def put(self, data: bytes) -> int:
        addr, self.next = self.next, (self.next + len(data) + 15) & -16
        assert self.next <= self.base + SCRATCH
        assert self.mm.space.write(addr, data)
        return addr

    def room(self, size: int) -> int:
        return self.put(bytes(size))

    def get(self, addr: int, size: int) -> bytes:
        data = self.mm.space.read(addr, size)
        assert data is not None
        return data

    def start(self, name: str, *arguments: int | bytes, task: Task | None = None) -> Any:
        """The first try of a call. `retry` makes the next one."""
        t = task or self.t
        t.blocked = Blocked()
        values = [self.put(a) if isinstance(a, bytes) else a % 2**64 for a in arguments]
        self.pending = name, (*values, 0, 0, 0, 0, 0, 0)[:6], t
        return self._try()

    def retry(self, woken: str = "key") -> Any:
        t = self.pending[2]
        assert t.blocked is not None
        t.blocked.woken = woken
        return self._try()

    def _try(self) -> Any:
        name, values, t = self.pending
        self.k.current = t
        result: Outcome
        try:
            result = BY_NAME[name].handler(self.k, t, values)  # type: ignore[arg-type]
        except Errno as error:
            return error.name
        return result

    call = start

    def clone(self, flags: int, stack: int = 0) -> Task:
        """The child of the first task."""
        args = (flags, stack, 0, 0, 0, 0)
        self.t.call = InCall(self.k.seq(), 220, "clone", args, self.t.tid, self.mm.id, 0, 0, 0)
        tid = self.call("clone", *args)
        self.t.call = None
        return self.k.tasks[tid]

    def idle(self, ns: int) -> None:
        """Advance the clock without running an instruction."""
        self.k.idle_until(self.k.now_ns() + ns)

    # The most frequent calls.

    def open(self, path: str, flags: int = 0, mode: int = 0o644) -> Any:
        return self.call("openat", AT_FDCWD, path.encode() + b"\0", flags, mode)

    def read(self, fd: int, size: int = 4096) -> Any:
        addr = self.room(size)
        n = self.call("read", fd, addr, size)
        return self.get(addr, n) if isinstance(n, int) else n

    def write(self, fd: int, data: bytes) -> Any:
        return self.call("write", fd, data, len(data))

    def text(self, path: str) -> Any:
        """The contents of a file."""
        fd = self.open(path)
        if isinstance(fd, str):
            return fd
        pieces = []
        while isinstance(piece := self.read(fd), bytes) and piece:
            pieces.append(piece)
        self.call("close", fd)
        return b"".join(pieces)

    def save(self, path: str, data: bytes) -> None:
        fd = self.open(path, 0o1101)
        assert self.write(fd, data) == len(data)
        assert self.call("close", fd) == 0

    def at(self, name: str, path: str, *rest: int | bytes) -> Any:
        """An *at call on a path from the working directory."""
        return self.call(name, AT_FDCWD, path.encode() + b"\0", *rest)

    def stat(self, path: str, flags: int = 0) -> Any:
        """st_dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, atime, mtime, ctime."""
        addr = self.room(128)
        result = self.at("newfstatat", path, addr, flags)
        if result != 0:
            return result
        fields = struct.unpack("<QQIIIIQ8xQi4xQ6Q8x", self.get(addr, 128))
        names = ["dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks"]
        return dict(zip(names, fields, strict=False)) | {"times": fields[10::2]}

    def names(self, path: str, room: int = 4096) -> list[str]:
        """The names in a directory, read by getdents64."""
        fd, out = self.open(path, 0o200000), []
        addr = self.room(room)
        while (n := self.call("getdents64", fd, addr, room)) != 0:
            assert isinstance(n, int), n
            data, at = self.get(addr, n), 0
            while at < n:
                (length,) = struct.unpack_from("<H", data, at + 16)
                out.append(data[at + 19 : at + length].split(b"\0")[0].decode())
                at += length
        self.call("close", fd)
        return out

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        addr = self.room(8)
        assert self.call("pipe2", addr, flags) == 0
        first, second = struct.unpack("<ii", self.get(addr, 8))
        return first, second
