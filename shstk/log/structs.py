"""Structs, addresses and strings in words, from their bytes, as strace shows them.

Layouts are those of riscv64 (64-bit, little-endian, generic headers).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from shstk.replay import decode
from shstk.schemas import uapi

# name, then field:type. Types: i8 … u64, x8 … x64 (hex), ptr, set (sigset_t), sN (char[N]), another
# struct, or i32/TYPE, where TYPE is one of _WORDS or of replay/decode.py's. +N: N bytes that are
# not shown; _N: N bytes of padding.
_LAYOUTS: Final = """
timespec tv_sec:i64 tv_nsec:i64
timeval tv_sec:i64 tv_usec:i64
linger l_onoff:i32 l_linger:i32
ucred pid:i32 uid:u32 gid:u32
timezone tz_minuteswest:i32 tz_dsttime:i32
itimerspec it_interval:timespec it_value:timespec
itimerval it_interval:timeval it_value:timeval
stat +16 st_mode:u32/st_mode +28 st_size:i64 +72
statx stx_mask:u32/statx +4 stx_attributes:x64 +12 stx_mode:u16/st_mode +10 stx_size:u64 +208
statfs f_type:x64 f_bsize:i64 f_blocks:u64 f_bfree:u64 f_bavail:u64 f_files:u64 f_ffree:u64 +64
rlimit rlim_cur:u64/rlim rlim_max:u64/rlim
rusage ru_utime:timeval ru_stime:timeval +112
tms tms_utime:i64 tms_stime:i64 tms_cutime:i64 tms_cstime:i64
utsname sysname:s65 nodename:s65 release:s65 version:s65 machine:s65 domainname:s65
sysinfo uptime:i64 +24 totalram:u64 freeram:u64 sharedram:u64 bufferram:u64 +48
sigaction sa_handler:ptr/handler sa_flags:u64/sa sa_mask:set
stack_t ss_sp:ptr ss_flags:i32/ss _4 ss_size:u64
siginfo si_signo:i32/sig _4 si_code:i32/cld _4 si_pid:i32 si_uid:u32 si_status:i32 +100
queued_siginfo si_signo:i32/sig _4 si_code:i32/si _4 si_pid:i32 si_uid:u32 si_value:x64 +96
pollfd fd:i32 events:u16/poll revents:u16/poll
epoll_event events:u32/epoll_events _4 data:x64
winsize ws_row:u16 ws_col:u16 ws_xpixel:u16 ws_ypixel:u16
termios c_iflag:x32 c_oflag:x32 c_cflag:x32 c_lflag:x32 +20
termios2 c_iflag:x32 c_oflag:x32 c_cflag:x32 c_lflag:x32 +28
flock l_type:i16/lock l_whence:i16/whence _4 l_start:i64 l_len:i64 l_pid:i32 _4
iovec iov_base:ptr iov_len:u64
msghdr msg_name:ptr msg_namelen:i32 _4 msg_iov:ptr msg_iovlen:u64 msg_control:ptr msg_controllen:u64 msg_flags:i32 _4
cmsghdr cmsg_len:u64 cmsg_level:i32/level cmsg_type:i32/scm
sigevent sigev_value:x64 sigev_signo:i32/sig sigev_notify:i32/sigev +48
futex_waitv val:u64 uaddr:ptr flags:x32 _4
robust_list next:ptr futex_offset:i64 list_op_pending:ptr
sembuf sem_num:u16 sem_op:i16 sem_flg:x16
sched_param sched_priority:i32
sched_attr size:u32 sched_policy:u32/sched sched_flags:x64 sched_nice:i32 sched_priority:u32 sched_runtime:u64 sched_deadline:u64 sched_period:u64
mq_attr mq_flags:i64 mq_maxmsg:i64 mq_msgsize:i64 mq_curmsgs:i64 +32
clone_args flags:u64/clone pidfd:ptr child_tid:ptr parent_tid:ptr exit_signal:u64/sig stack:ptr stack_size:u64/hex tls:ptr
open_how flags:u64/open mode:u64/oct resolve:u64/resolve
hwprobe key:i64 value:x64
capabilities version:x32 pid:i32
capability_data effective:x32 permitted:x32 inheritable:x32
"""  # noqa: E501

_FILE_TYPES: Final = {
    0o140000: "S_IFSOCK",
    0o120000: "S_IFLNK",
    0o100000: "S_IFREG",
    0o060000: "S_IFBLK",
    0o040000: "S_IFDIR",
    0o020000: "S_IFCHR",
    0o010000: "S_IFIFO",
}
_POLL: Final = {
    "POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 0x10, "POLLNVAL": 0x20,
    "POLLRDNORM": 0x40, "POLLRDBAND": 0x80, "POLLWRNORM": 0x100, "POLLWRBAND": 0x200,
    "POLLRDHUP": 0x2000,
}  # fmt: skip
_EPOLL: Final = {
    **{f"E{name}": bit for name, bit in _POLL.items()},
    "EPOLLEXCLUSIVE": 1 << 28, "EPOLLWAKEUP": 1 << 29, "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31,
}  # fmt: skip
_SA: Final = {
    "SA_NOCLDSTOP": 1, "SA_NOCLDWAIT": 2, "SA_SIGINFO": 4, "SA_ONSTACK": 0x0800_0000,
    "SA_RESTART": 0x1000_0000, "SA_NODEFER": 0x4000_0000, "SA_RESETHAND": 0x8000_0000,
    "SA_RESTORER": 0x0400_0000,
}  # fmt: skip
_SS: Final = {"SS_ONSTACK": 1, "SS_DISABLE": 2, "SS_AUTODISARM": 1 << 31}
_SIGEV: Final = {
    0: "SIGEV_SIGNAL", 1: "SIGEV_NONE", 2: "SIGEV_THREAD", 4: "SIGEV_THREAD_ID"
}  # fmt: skip
_LOCKS: Final = {uapi.F_RDLCK: "F_RDLCK", uapi.F_WRLCK: "F_WRLCK", uapi.F_UNLCK: "F_UNLCK"}


def _mode(value: int) -> str:
    kind = _FILE_TYPES.get(value & 0o170000)
    return f"{kind}|{value & 0o7777:04o}" if kind else f"0{value:o}"


def _limit(value: int) -> str:
    return "RLIM64_INFINITY" if value == uapi.RLIM_INFINITY else decode.size(value)


_WORDS: Final[Mapping[str, Callable[[int], str]]] = {
    "st_mode": _mode,
    "rlim": _limit,
    "handler": lambda v: {0: "SIG_DFL", 1: "SIG_IGN"}.get(v, hex(v)),
    "sa": lambda v: decode.flags(v, _SA),
    "ss": lambda v: decode.flags(v & 0xFFFF_FFFF, _SS),
    "poll": lambda v: decode.flags(v, _POLL),
    "epoll_events": lambda v: decode.flags(v, _EPOLL),
    "cld": lambda v: decode.signal_code(uapi.SIGNALS["SIGCHLD"], v),
    "si": lambda v: decode.signal_code(0, v),
    "level": lambda v: "SOL_SOCKET" if v == uapi.SOL_SOCKET else str(v),
    "scm": lambda v: {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"}.get(v, str(v)),
    "sigev": lambda v: _SIGEV.get(v, str(v)),
    "lock": lambda v: _LOCKS.get(v, str(v)),
    "resolve": lambda v: decode.flags(v, uapi.constants("RESOLVE_")),
}
_SCALARS: Final = {
    **{f"{sign}{bits}": code for sign, codes in (("i", "bhiq"), ("u", "BHIQ"), ("x", "BHIQ"))
       for bits, code in zip((8, 16, 32, 64), codes, strict=True)},
    "ptr": "Q",
    "set": "Q",
    "int": "i",
    "status": "i",
}  # fmt: skip


class Field(NamedTuple):
    """name: empty for bytes that are not shown. type: empty for padding too."""

    name: str
    type: str
    offset: int
    skipped: bool


class Layout(NamedTuple):
    size: int
    fields: tuple[Field, ...]


def _layouts() -> dict[str, Layout]:
    found: dict[str, Layout] = {}
    for line in _LAYOUTS.strip().splitlines():
        name, *words = line.split()
        fields, at = [], 0
        for word in words:
            if word[0] in "+_":
                fields.append(Field("", "", at, word[0] == "+"))
                at += int(word[1:])
            else:
                field, _, kind = word.partition(":")
                fields.append(Field(field, kind, at, False))
                at += found[kind].size if kind in found else _size(kind)
        found[name] = Layout(at, tuple(fields))
    return found


def _size(kind: str) -> int:
    base = kind.partition("/")[0]
    if base in _SCALARS:
        return struct.calcsize(_SCALARS[base])
    return int(base[1:])  # sN


_STRUCTS: Final = _layouts()


def size_of(kind: str) -> int:
    """Bytes of a struct or a scalar."""
    return _STRUCTS[kind].size if kind in _STRUCTS else _size(kind)


def shown(kind: str, data: bytes) -> str:
    """A struct or a scalar, from its size_of bytes."""
    if kind in _STRUCTS:
        parts = [f"{name}={text}" for name, text in fields(kind, data).items()]
        hidden = any(f.skipped for f in _STRUCTS[kind].fields)
        return "{" + ", ".join([*parts, *(["..."] if hidden else [])]) + "}"
    base, _, words = kind.partition("/")
    if base not in _SCALARS:
        return quoted(data.split(b"\0")[0])
    (value,) = struct.unpack("<" + _SCALARS[base], data)
    if words:
        return _WORDS[words](value) if words in _WORDS else decode.argument(words, value)
    if base == "set":
        return signal_set(value)
    if base == "status":
        return wait_status(value)
    if base == "ptr":
        return hex(value) if value else "NULL"
    return hex(value) if base[0] == "x" else str(value)


def fields(kind: str, data: bytes) -> dict[str, str]:
    """The fields of a struct that are shown, by name."""
    return {
        f.name: shown(f.type, data[f.offset : f.offset + size_of(f.type)])
        for f in _STRUCTS[kind].fields
        if f.name
    }


def signal_set(mask: int) -> str:
    """`[INT CHLD]`; `~[…]` of those that are not in a set that has most."""
    inverted = mask.bit_count() > 32
    bits = ~mask & (2**64 - 1) if inverted else mask
    names = [decode.signal_name(n).removeprefix("SIG") for n in range(1, 65) if bits >> (n - 1) & 1]
    return ("~" if inverted else "") + "[" + " ".join(names) + "]"


def wait_status(status: int) -> str:
    status &= 0xFFFF
    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    low = status & 0x7F
    if low == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8}}}"
    if low == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {decode.signal_name(status >> 8)}}}"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {decode.signal_name(low)}{core}}}"


def members(data: bytes) -> str:
    """The numbers of the bits that are set: `[0 3]`, as of a CPU mask or an fd_set."""
    bits = int.from_bytes(data, "little")
    return "[" + " ".join(str(n) for n in range(8 * len(data)) if bits >> n & 1) + "]"


def control(data: bytes) -> str:
    """The control messages of a msghdr."""
    told, at, size = [], 0, size_of("cmsghdr")
    while at + size <= len(data):
        length, level, kind = struct.unpack_from("<Qii", data, at)
        if not size <= length <= len(data) - at:
            break
        body = data[at + size : at + length]
        head = shown("cmsghdr", data[at : at + size])
        if (level, kind) == (uapi.SOL_SOCKET, 1):
            fds = struct.unpack(f"<{len(body) // 4}i", body[: len(body) & ~3])
            text = "[" + ", ".join(map(str, fds)) + "]"
        else:
            text = quoted(body)
        told.append(f"{head[:-1]}, cmsg_data={text}}}")
        at += (length + 7) & ~7
    return "[" + ", ".join(told) + "]"


def sockaddr(data: bytes) -> str:
    """A socket address; the bytes of one of an unknown family."""
    if len(data) < 2:
        return quoted(data)
    family = int.from_bytes(data[:2], "little")
    name = decode.argument("family", family)
    if family == uapi.AF_UNIX:
        path = data[2:]
        text = "@" + quoted(path[1:]) if path[:1] == b"\0" and path[1:] else ""
        return f"{{sa_family={name}, sun_path={text or quoted(path.split(bytes(1))[0])}}}"
    if family == uapi.AF_INET and len(data) >= 8:
        port = int.from_bytes(data[2:4], "big")
        host = ".".join(map(str, data[4:8]))
        return (
            f"{{sa_family={name}, sin_port=htons({port}), sin_addr=inet_addr({host!r})}}".replace(
                "'", '"'
            )
        )
    if family == uapi.AF_INET6 and len(data) >= 24:
        from ipaddress import IPv6Address

        port = int.from_bytes(data[2:4], "big")
        host = str(IPv6Address(data[8:24]))
        return f'{{sa_family={name}, sin6_port=htons({port}), inet_pton(AF_INET6, "{host}")}}'
    return f"{{sa_family={name}, sa_data={quoted(data[2:])}}}"


def dirents(data: bytes) -> str:
    """How many records of getdents64 these bytes are, and their names."""
    names, at = [], 0
    while at + 19 <= len(data):
        length = int.from_bytes(data[at + 16 : at + 18], "little")
        if not length:
            break
        names.append(quoted(data[at + 19 : at + length].split(b"\0")[0]))
        at += length
    return "[" + ", ".join(names) + "]"


_ESCAPES: Final = {
    "\n": "\\n", "\t": "\\t", "\r": "\\r", "\v": "\\v", "\f": "\\f", '"': '\\"', "\\": "\\\\"
}  # fmt: skip
_UNPLAIN: Final = re.compile(r"""[^ !#-\[\]-~](?=(\d?))""", re.ASCII)


def quoted(data: bytes, limit: int | None = None) -> str:
    r"""Bytes as a C string: "a\n\177ELF"; `"…"...` if it has more than `limit` bytes."""
    more = limit is not None and len(data) > limit
    text = (data[:limit] if more else data).decode(errors="surrogateescape")
    return '"' + _UNPLAIN.sub(_escaped, text) + '"' + ("..." if more else "")


def _escaped(found: re.Match[str]) -> str:
    char, digit = found[0], found[1]  # a digit that follows would belong to a short octal number
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    raw = char.encode(errors="surrogateescape")
    return "".join(f"\\{byte:03o}" if digit else f"\\{byte:o}" for byte in raw)
