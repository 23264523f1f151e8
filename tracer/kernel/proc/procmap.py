"""PROCMAP_QUERY of /proc/PID/maps: one area as a struct (fs/proc/task_mmu.c)."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shstk.schemas.errors import BadProgram
from shstk.schemas.uapi import PAGE
from shstk.tracer import elf
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.mm import Mm
from shstk.tracer.kernel.mm.vma import Vma
from shstk.tracer.kernel.proc.memtext import area_name
from shstk.tracer.kernel.tree.hosttree import raw

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

PROCMAP_QUERY: Final = 0xC068_6611
# size, flags, address; start, end, flags, page size, offset, inode; device; sizes and addresses of
# the name and the build id
_QUERY: Final = struct.Struct("<9Q4I2Q")
_LEAST: Final = 24
_SHARED, _COVERING_OR_NEXT, _FILE_BACKED = 8, 16, 32  # PROCMAP_QUERY_*, after the three of PROT_*
_KNOWN: Final = 0x3F


def query(k: Kernel, t: Task, mm: Mm | None, arg: int) -> int:
    """do_procmap_query. Errno E2BIG, EINVAL, ESRCH, ENOENT, ENAMETOOLONG, EFAULT."""
    size = usermem.get_u64(k, t, arg)
    if size > PAGE:
        raise Errno("E2BIG")
    if size < _LEAST:
        raise Errno("EINVAL")
    given = usermem.get(k, t, arg, size)
    if any(given[_QUERY.size :]):
        raise Errno("E2BIG")
    fields = _QUERY.unpack(given[: _QUERY.size].ljust(_QUERY.size, b"\0"))
    flags, address, (name_room, id_room, name_at, id_at) = fields[1], fields[2], fields[11:]
    if flags & ~_KNOWN or (not name_room) != (not name_at) or (not id_room) != (not id_at):
        raise Errno("EINVAL")
    if mm is None:
        raise Errno("ESRCH")
    vma = _matching(mm, address, flags)
    build_id = _build_id(vma) if id_room else b""
    name = raw(area_name(mm, vma)) if name_room else b""
    if len(build_id) > id_room or (name and len(name) + 1 > name_room):
        raise Errno("ENAMETOOLONG")
    device, inode, offset = 0, 0, 0
    if vma.file is not None:
        device, inode, offset = vma.file.inode.dev, vma.file.inode.ino, vma.offset
    kind = vma.prot | _SHARED * vma.shared
    area = (vma.start, vma.end, kind, PAGE, offset, inode, device >> 8, device & 0xFF)
    sizes = (len(name) + 1 if name else 0, len(build_id), name_at, id_at)
    if name:
        usermem.put(k, t, name_at, name + b"\0")
    usermem.put(k, t, id_at, build_id)
    answer = _QUERY.pack(size, flags, address, *area, *sizes)
    usermem.put(k, t, arg, answer[:size])
    return 0


def _matching(mm: Mm, address: int, flags: int) -> Vma:
    """query_matching_vma. Errno ENOENT."""
    vma = mm.vmas.find(address) or mm.vmas.after(address)
    while vma is not None:
        covers = vma.start <= address
        if not covers and not flags & _COVERING_OR_NEXT:
            break
        suits = not flags & 7 & ~vma.prot and (vma.shared or not flags & _SHARED)
        if suits and (vma.file is not None or not flags & _FILE_BACKED):
            return vma
        if not flags & _COVERING_OR_NEXT:
            break
        vma = mm.vmas.after(vma.end)
    raise Errno("ENOENT")


def _build_id(vma: Vma) -> bytes:
    found = None
    if vma.file is not None:
        with suppress(BadProgram):
            found = elf.parse(bytes(vma.file.inode.contents()), vma.file.path).build_id
    return bytes.fromhex(found or "")
