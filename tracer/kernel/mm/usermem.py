"""Accesses of the kernel to guest memory. Each store is a `kernel_memory` row.

Every function raises Errno("EFAULT") where copy_to_user or copy_from_user would fail.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TASK_SIZE_MAX = 2**63


def access_ok(addr: int, n: int) -> bool:
    """Whether n bytes from addr could be user memory. The sum can't wrap around."""
    return addr + n <= _TASK_SIZE_MAX


def get(k: Kernel, t: Task, addr: int, n: int) -> bytes:
    mm = t.mm
    assert mm is not None
    if mm.pmlen:
        addr = mm.untagged(addr)
    if addr + n > _TASK_SIZE_MAX:
        raise Errno("EFAULT")
    data = mm.space.read(addr, n) if n else b""
    if data is None and _grow(k, t, addr):
        data = mm.space.read(addr, n)
    if data is None:
        raise Errno("EFAULT")
    return data


def put(k: Kernel, t: Task, addr: int, data: bytes, record: bool = True) -> None:
    """record=False: for bytes that another table has already (a file's contents)."""
    if not data:
        return
    mm = t.mm
    assert mm is not None
    if mm.pmlen:
        addr = mm.untagged(addr)
    if addr + len(data) > _TASK_SIZE_MAX:
        raise Errno("EFAULT")
    if not mm.space.write(addr, data) and not (_grow(k, t, addr) and mm.space.write(addr, data)):
        raise Errno("EFAULT")
    if record:
        note(k, t, "write", addr, data)


def get_u32(k: Kernel, t: Task, addr: int) -> int:
    return int(_U32.unpack(get(k, t, addr, 4))[0])


def get_u64(k: Kernel, t: Task, addr: int) -> int:
    return int(_U64.unpack(get(k, t, addr, 8))[0])


def put_u32(k: Kernel, t: Task, addr: int, value: int) -> None:
    put(k, t, addr, _U32.pack(value & 0xFFFF_FFFF))


def put_u64(k: Kernel, t: Task, addr: int, value: int) -> None:
    put(k, t, addr, _U64.pack(value & 0xFFFF_FFFF_FFFF_FFFF))


def get_cstr(
    k: Kernel, t: Task, addr: int, limit: int = 4096, too_long: str = "ENAMETOOLONG"
) -> bytes:
    """The string without its NUL. It is recorded, so that calls can be printed with their strings.

    Errno: `too_long` if there is no NUL in `limit` bytes.
    """
    addr = _untagged(t, addr)
    data = t.space.read_cstr(addr, limit) if access_ok(addr, 1) else None
    if data is None:
        raise Errno("EFAULT")
    if len(data) >= limit:
        raise Errno(too_long)
    note(k, t, "read", addr, data)
    return data


def ss_put(k: Kernel, t: Task, addr: int, value: int) -> None:
    """The kernel's 8-byte store to a writable shadow stack (a token)."""
    if not t.space.ss_write(addr, value):
        raise Errno("EFAULT")
    note(k, t, "write", addr, _U64.pack(value))


def ss_swap(k: Kernel, t: Task, addr: int, value: int) -> int:
    """The kernel's ssamoswap.d: store `value` and return the old word."""
    old = t.space.ss_swap(addr, value)
    if old is None:
        raise Errno("EFAULT")
    note(k, t, "swap", addr, _U64.pack(old) + _U64.pack(value))
    return old


def _untagged(t: Task, addr: int) -> int:
    return t.mm.untagged(addr) if t.mm is not None and t.mm.pmlen else addr


def _grow(k: Kernel, t: Task, addr: int) -> bool:
    """An access below the stack makes it grow, as a fault in user mode does."""
    return t.mm is not None and t.mm.grow_stack(k, t, addr)


def note(k: Kernel, t: Task, op: str, addr: int, data: bytes) -> None:
    """Write only the kernel_memory row: for a "read", or for a store made another way."""
    seq = k.seq()
    if k.rec.keeps:
        k.rec.add("kernel_memory", (seq, t.tid, t.mm_id, k.during, op, addr, data))
