"""name_to_handle_at: a handle that names an inode (fs/fhandle.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import DEV_ANON, DEV_PROC
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tree.sandbox import find_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_UNIQUE, _CONNECTABLE, _FID = 1, 2, 0x200  # AT_HANDLE_MNT_ID_UNIQUE and its kin
_FLAGS: Final = AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | _UNIQUE | _CONNECTABLE | _FID
_SIZE_MAX: Final = 128  # MAX_HANDLE_SZ
_TYPE: Final = 1  # tmpfs's: a generation, and the inode's number in two words
_HANDLE: Final = struct.Struct("<IQ")


def sys_name_to_handle_at(k: Kernel, t: Task, a: Args) -> int:
    """struct file_handle: handle_bytes, handle_type, then the handle. Errno EOVERFLOW: it stored
    the size that it needs."""
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~_FLAGS or (flags & _CONNECTABLE and flags & (_FID | AT_EMPTY_PATH)):
        raise Errno("EINVAL")
    how = flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    inode = find_at(k, t, a[0], a[1], how)
    if inode.dev in (DEV_PROC, DEV_ANON):
        raise Errno("EOPNOTSUPP")
    room = usermem.get_u32(k, t, a[2])
    if room > _SIZE_MAX:
        raise Errno("EINVAL")
    usermem.put(k, t, a[3], inode.dev.to_bytes(8 if flags & _UNIQUE else 4, "little"))
    fits = room >= _HANDLE.size
    handle = _HANDLE.pack(0, inode.ino) if fits else b""
    usermem.put(k, t, a[2], struct.pack("<Ii", _HANDLE.size, _TYPE if fits else 255) + handle)
    if not fits:
        raise Errno("EOVERFLOW")
    return 0


CALLS: Final = (Call("name_to_handle_at", sys_name_to_handle_at),)
