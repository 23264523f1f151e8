"""Process and user ids, process groups and sessions, uname, sysinfo.

The user is always an ordinary one, uid 1000. So RLIMIT_NPROC applies as it does to the programs
that people trace, permission bits have an effect, and nothing succeeds that would need root.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE
from shstk.tracer.kernel.call import Args, Call, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import outside
from shstk.tracer.kernel.task import ROOT, UID, Process
from shstk.tracer.kernel.time.clock import SECOND

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

NODENAME: Final = "shstk"
_BUILD: Final = "#1 SMP PREEMPT Wed Apr  3 23:40:54 UTC 2024"
_UTS_FIELD: Final = 65
_MINUS_ONE: Final = 0xFFFF_FFFF
_UNAME26, _PER_LINUX32, _PER_MASK = 0x20000, 8, 0xFF
_CAPABILITY_VERSION: Final = 0x2008_0522
# How many structs of three words each version of the header stands for.
_CAPABILITY_STRUCTS: Final = {0x1998_0330: 1, 0x2007_1026: 2, _CAPABILITY_VERSION: 2}
CAP_LAST: Final = 40
_SYSLOG_READ_ALL, _SYSLOG_SIZE_BUFFER = 3, 10
_LOG_SIZE: Final = 1 << 17  # CONFIG_LOG_BUF_SHIFT
_CAP_VALID: Final = (1 << CAP_LAST + 1) - 1


def version(k: Kernel) -> tuple[str, str]:
    """uname's release and version."""
    return k.row.release, _BUILD


def sys_uname(k: Kernel, t: Task, a: Args) -> int:
    """struct new_utsname. A personality may ask for the release of a 2.6 kernel, and for the name
    of the 32-bit machine (override_release, override_architecture)."""
    release, build = version(k)
    if t.personality & _UNAME26:
        minor, rest = re.fullmatch(r"\d+\.(\d+)(?:\.\d+)?(.*)", release).groups()  # type: ignore[union-attr]
        release = f"2.6.{int(minor) + 60}{rest}"
    machine = "riscv" if t.personality & _PER_MASK == _PER_LINUX32 else "riscv64"
    fields = ("Linux", NODENAME, release, build, machine, "(none)")
    usermem.put(k, t, a[0], b"".join(f.encode().ljust(_UTS_FIELD, b"\0") for f in fields))
    return 0


def memory(k: Kernel) -> tuple[int, int]:
    """(total, free) memory in bytes. The total is 4 GiB by default."""
    total = k.memory or 4 << 30
    return total, max(0, total - k.machine.frames * PAGE)


def sys_sysinfo(k: Kernel, t: Task, a: Args) -> int:
    """struct sysinfo."""
    total, free = memory(k)
    loads = (0, 0, 0)
    ram = (total, free, 0, 0, 0, 0)
    uptime = k.now_ns() // SECOND
    packed = struct.pack("<q3Q6QH6xQQI4x", uptime, *loads, *ram, len(k.tasks), 0, 0, 1)
    usermem.put(k, t, a[0], packed)
    return 0


def sys_getpid(k: Kernel, t: Task, a: Args) -> int:
    return t.pid


def sys_getppid(k: Kernel, t: Task, a: Args) -> int:
    return t.process.ppid


def sys_gettid(k: Kernel, t: Task, a: Args) -> int:
    return t.tid


def _get_id(k: Kernel, t: Task, a: Args) -> int:
    return UID


def _set_ids(count: int) -> Callable[[Kernel, Task, Args], int]:
    """set*id with `count` ids. Each must be the current id, or -1 if there are several."""

    def handler(k: Kernel, t: Task, a: Args) -> int:
        if count == 1 and a[0] & 0xFFFF_FFFF == _MINUS_ONE:
            raise Errno("EINVAL")  # uid_valid()
        allowed = (UID,) if count == 1 else (UID, _MINUS_ONE)
        if any(value & 0xFFFF_FFFF not in allowed for value in a[:count]):
            raise Errno("EPERM")
        return 0

    return handler


def _get_res_ids(k: Kernel, t: Task, a: Args) -> int:
    for addr in a[:3]:
        usermem.put_u32(k, t, addr, UID)
    return 0


def sys_getgroups(k: Kernel, t: Task, a: Args) -> int:
    size = a[0] & 0xFFFF_FFFF
    if size >> 31:
        raise Errno("EINVAL")
    if size:
        usermem.put_u32(k, t, a[1], UID)
    return 1


def _refuse(k: Kernel, t: Task, a: Args) -> int:
    raise Errno("EPERM")


def _process(k: Kernel, t: Task, pid: int) -> Process:
    """The process of a thread; 0 is the caller's own. Errno: ESRCH."""
    pid &= 0xFFFF_FFFF
    task = k.find(pid) if pid else t
    if task is None:
        raise Errno("ESRCH")
    return task.process


def sys_setpgid(k: Kernel, t: Task, a: Args) -> int:
    pid = a[0] & 0xFFFF_FFFF or t.pid
    pgid = a[1] & 0xFFFF_FFFF or pid
    if pgid >> 31:
        raise Errno("EINVAL")
    process = _process(k, t, pid)
    if process.pid != pid:
        raise Errno("EINVAL")  # not a leader of threads
    if process.parent is t.process:
        if process.sid != t.process.sid:
            raise Errno("EPERM")
        if process.has_execed:
            raise Errno("EACCES")
    elif process is not t.process:
        raise Errno("ESRCH")
    if process.sid == process.pid:
        raise Errno("EPERM")
    groups = {p.pgid for p in k.all_processes() if p.sid == t.process.sid}
    if pgid not in groups | {pid}:
        raise Errno("EPERM")
    process.pgid = pgid
    return 0


def sys_getpgid(k: Kernel, t: Task, a: Args) -> int:
    return _process(k, t, a[0]).pgid


def sys_getsid(k: Kernel, t: Task, a: Args) -> int:
    return _process(k, t, a[0]).sid


def sys_setsid(k: Kernel, t: Task, a: Args) -> int:
    if any(p.pgid == t.pid for p in k.processes.values()):
        raise Errno("EPERM")
    t.process.sid = t.process.pgid = t.pid
    return t.pid


def orphaned(k: Kernel, process: Process) -> bool:
    """is_current_pgrporphaned(): no member has a parent in another group of its session."""
    for p in k.processes.values():
        above = p.parent
        if p.pgid != process.pgid or above is None or above is outside.init(k):
            continue
        if above.pgid != p.pgid and above.sid == p.sid:
            return False
    return True


def sys_syslog(k: Kernel, t: Task, a: Args) -> int:
    """do_syslog(): everybody may read the log, which is empty, and ask for its size."""
    kind, addr, length = i32(a[0]), a[1], i32(a[2])
    if kind == _SYSLOG_SIZE_BUFFER:
        return _LOG_SIZE
    if kind != _SYSLOG_READ_ALL:
        raise Errno("EPERM")
    if not addr or length < 0:
        raise Errno("EINVAL")
    if not usermem.access_ok(addr, length):
        raise Errno("EFAULT")
    return 0


def capabilities(process: Process) -> int:
    """Those that are permitted and in effect: root has all, everybody else none."""
    return _CAP_VALID if process.uid == ROOT else 0


def _capability_structs(k: Kernel, t: Task, header: int) -> int:
    """cap_validate_magic(). Errno EINVAL: an unknown version; the header gets the newest one."""
    structs = _CAPABILITY_STRUCTS.get(usermem.get_u32(k, t, header))
    if structs is None:
        usermem.put_u32(k, t, header, _CAPABILITY_VERSION)
        raise Errno("EINVAL")
    return structs


def sys_capget(k: Kernel, t: Task, a: Args) -> int:
    """Without room for the capabilities, the call only asks for the version."""
    try:
        structs = _capability_structs(k, t, a[0])
    except Errno as error:
        if error.name == "EINVAL" and not a[1]:
            return 0
        raise
    if not a[1]:
        return 0
    pid = usermem.get_u32(k, t, a[0] + 4)
    if pid >> 31:
        raise Errno("EINVAL")
    has = capabilities(_process(k, t, pid))
    words = [word for shift in (0, 32) for word in (has >> shift & _MINUS_ONE,) * 2 + (0,)]
    usermem.put(k, t, a[1], struct.pack("<6I", *words)[: 12 * structs])
    return 0


def sys_capset(k: Kernel, t: Task, a: Args) -> int:
    """Only the caller's own, and only to none. Unknown capabilities are ignored. Errno: EPERM."""
    structs = _capability_structs(k, t, a[0])
    if usermem.get_u32(k, t, a[0] + 4) not in (0, t.tid):
        raise Errno("EPERM")
    words = struct.unpack(f"<{3 * structs}I", usermem.get(k, t, a[1], 12 * structs))
    low, high = words[:3], words[3:] or (0, 0, 0)
    if any((b << 32 | a) & _CAP_VALID for a, b in zip(low, high, strict=True)):
        raise Errno("EPERM")
    return 0


def sys_personality(k: Kernel, t: Task, a: Args) -> int:
    """Any value is taken. READ_IMPLIES_EXEC, STICKY_TIMEOUTS, UNAME26 and PER_LINUX32's machine
    have effects; addresses are never random."""
    wanted, old = a[0] & 0xFFFF_FFFF, t.personality
    if wanted != _MINUS_ONE:
        t.personality = wanted
    return old


def start_program(t: Task) -> None:
    """SET_PERSONALITY(): the program is one of Linux, unless 32-bit programs were asked for."""
    if t.personality & _PER_MASK != _PER_LINUX32:
        t.personality &= ~_PER_MASK


_ONE_USER: Final = "one fixed user without capabilities"

CALLS: Final = (
    Call("capget", sys_capget, "simple", _ONE_USER),
    Call("capset", sys_capset, "simple", _ONE_USER),
    Call("personality", sys_personality, why="no MMAP_PAGE_ZERO, ADDR_COMPAT_LAYOUT, ADDR_LIMIT_*"),
    Call("setregid", _set_ids(2), "simple", _ONE_USER),
    Call("setgid", _set_ids(1), "simple", _ONE_USER),
    Call("setreuid", _set_ids(2), "simple", _ONE_USER),
    Call("setuid", _set_ids(1), "simple", _ONE_USER),
    Call("setresuid", _set_ids(3), "simple", _ONE_USER),
    Call("getresuid", _get_res_ids, "simple", _ONE_USER),
    Call("setresgid", _set_ids(3), "simple", _ONE_USER),
    Call("getresgid", _get_res_ids, "simple", _ONE_USER),
    Call("setfsuid", _get_id, "simple", _ONE_USER),
    Call("setfsgid", _get_id, "simple", _ONE_USER),
    Call("setpgid", sys_setpgid),
    Call("getpgid", sys_getpgid),
    Call("getsid", sys_getsid),
    Call("setsid", sys_setsid),
    Call("getgroups", sys_getgroups, "simple", _ONE_USER),
    Call("setgroups", _refuse, "refused", _ONE_USER),
    Call("uname", sys_uname),
    Call("sethostname", _refuse, "refused", _ONE_USER),
    Call("setdomainname", _refuse, "refused", _ONE_USER),
    Call("getpid", sys_getpid),
    Call("getppid", sys_getppid),
    Call("getuid", _get_id, "simple", _ONE_USER),
    Call("geteuid", _get_id, "simple", _ONE_USER),
    Call("getgid", _get_id, "simple", _ONE_USER),
    Call("getegid", _get_id, "simple", _ONE_USER),
    Call("gettid", sys_gettid),
    Call("syslog", sys_syslog, "simple", "the log is empty; nothing else without a capability"),
    Call("sysinfo", sys_sysinfo, why="no swap, no load"),
)
