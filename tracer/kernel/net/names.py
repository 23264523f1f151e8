"""Names of sockets, to and from guest memory.

A sun_path is b"" (unnamed), a path, or begins with NUL (abstract); inet.py has the names of AF_INET
and AF_INET6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import AF_INET, AF_UNIX, AF_UNSPEC
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import WRITE
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.inet import NAME_SIZES, InetSocket, Place, unpack
from shstk.tracer.kernel.net.sockets import ABSTRACT_NAMES, Socket, SocketNode
from shstk.tracer.kernel.tree.hosttree import text
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_STORAGE: Final = 128  # sizeof(struct sockaddr_storage)
_SOCKADDR_UN: Final = 110


def get_sockaddr(k: Kernel, t: Task, addr: int, length: int) -> bytes:
    """move_addr_to_kernel(). Errno EINVAL, EFAULT."""
    length &= 0xFFFF_FFFF
    if length > _STORAGE:
        raise Errno("EINVAL")
    data = usermem.get(k, t, addr, length)
    if data:
        usermem.note(k, t, "read", addr, data)
    return data


def family_of(data: bytes) -> int:
    """Errno EINVAL: not even the family is there."""
    if len(data) < 2:
        raise Errno("EINVAL")
    return int.from_bytes(data[:2], "little")


def unix_name(data: bytes) -> bytes:
    """unix_validate_addr(): the sun_path; a path ends at its NUL."""
    if not 2 < len(data) <= _SOCKADDR_UN or family_of(data) != AF_UNIX:
        raise Errno("EINVAL")
    name = data[2:]
    return name if name[:1] == b"\0" else name.split(b"\0")[0]


def inet_place(sock: InetSocket, data: bytes, binds: bool = False) -> Place:
    """Errno EINVAL: too short; EAFNOSUPPORT. binds: 0.0.0.0 may have the family AF_UNSPEC."""
    if len(data) < NAME_SIZES[sock.family]:
        raise Errno("EINVAL")
    family = family_of(data)
    any_address = binds and family == AF_UNSPEC and sock.family == AF_INET and not any(data[4:8])
    if family != sock.family and not any_address:
        raise Errno("EAFNOSUPPORT")
    return unpack(sock.family, data[2:])


def sockaddr(sock: Socket, name: bytes) -> bytes:
    end = b"\0" if sock.family == AF_UNIX and name and name[:1] != b"\0" else b""
    return sock.family.to_bytes(2, "little") + name + end


def put_address(k: Kernel, t: Task, addr: int, length_at: int, sock: Socket, name: bytes) -> None:
    """move_addr_to_user: copy what fits, and store the full length."""
    room = usermem.get_u32(k, t, length_at)
    if room >> 31:
        raise Errno("EINVAL")
    data = sockaddr(sock, name)
    usermem.put(k, t, addr, data[:room])
    usermem.put_u32(k, t, length_at, len(data))


def named(k: Kernel, t: Task, name: bytes, kind: int) -> Socket:
    """The socket with this name. Abstract names of one kind of sockets are unknown to the others.

    Errno ECONNREFUSED (none), EPROTOTYPE (a path of another kind), those of a path walk.
    """
    if name[:1] == b"\0":
        found = ABSTRACT_NAMES.of(k).sockets.get((kind, name))
    else:
        inode = find(k, t, AT_FDCWD, text(name)).existing()
        inode.permit(WRITE)
        found = inode.socket if isinstance(inode, SocketNode) else None
    if found is None or found.closed:
        raise Errno("ECONNREFUSED")
    if found.kind != kind:
        raise Errno("EPROTOTYPE")
    return found
