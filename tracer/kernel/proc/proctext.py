"""The contents of the files of /proc, in Linux's format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import O_CLOEXEC, RLIM_INFINITY, RLIMITS
from shstk.tracer.kernel.arch import hwprobe
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import locks
from shstk.tracer.kernel.fs.inode import DEV_PROC, DEV_ROOT
from shstk.tracer.kernel.proc.memtext import maps, smaps, smaps_rollup, statm, vm_status
from shstk.tracer.kernel.proc.sysctls import SYSCTLS
from shstk.tracer.kernel.process.identity import CAP_LAST, capabilities, memory, version
from shstk.tracer.kernel.task import BLOCKED, DEAD, RUNNABLE, STOPPED, ZOMBIE, Process, Task
from shstk.tracer.kernel.time.clock import SECOND, USER_HZ

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_STATES: Final = {
    RUNNABLE: "R (running)",
    BLOCKED: "S (sleeping)",
    STOPPED: "T (stopped)",
    ZOMBIE: "Z (zombie)",
    DEAD: "X (dead)",
}


class TaskText(NamedTuple):
    write: Callable[[Kernel, Task], bytes]
    mode: int = 0o444


def _arguments(addresses: tuple[int, int], t: Task) -> bytes:
    """The strings of argv or of the environment, as they are in memory now."""
    start, end = addresses
    return t.space.read(start, end - start) or b""


def _cmdline(k: Kernel, t: Task) -> bytes:
    return _arguments(t.mm.args, t) if t.mm else b""


def _environ(k: Kernel, t: Task) -> bytes:
    return _arguments(t.mm.envs, t) if t.mm else b""


def _auxv(k: Kernel, t: Task) -> bytes:
    return t.mm.auxv if t.mm else b""


def _comm(k: Kernel, t: Task) -> bytes:
    return t.comm.encode("utf-8", "surrogateescape") + b"\n"


def _signal_sets(t: Task) -> dict[str, int]:
    actions = t.process.sighand.actions.items()

    def pending(holder: Task | Process) -> int:
        return sum({1 << p.signo - 1 for p in holder.pending})

    return {
        "SigPnd": pending(t),
        "ShdPnd": pending(t.process),
        "SigBlk": t.sigmask,
        "SigIgn": sum(1 << n - 1 for n, a in actions if a.handler == 1),
        "SigCgt": sum(1 << n - 1 for n, a in actions if a.handler > 1),
    }


def _status(k: Kernel, t: Task) -> bytes:
    process, ids = t.process, "\t".join([str(t.process.uid)] * 4)
    rows: list[tuple[str, object]] = [
        ("Name", t.comm),
        ("Umask", f"{t.fs.umask:04o}"),
        ("State", _STATES[t.state]),
        ("Tgid", t.pid),
        ("Ngid", 0),
        ("Pid", t.tid),
        ("PPid", process.ppid),
        ("TracerPid", t.tracer.pid if t.tracer else 0),
        ("Uid", ids),
        ("Gid", ids),
        ("FDSize", max(64, 1 << len(t.files.slots).bit_length())),
        ("Groups", f"{process.uid} "),
        *vm_status(t),
        ("Threads", len(process.tasks)),
        ("SigQ", f"{len(process.pending)}/{process.rlimits['SIGPENDING'][0]}"),
        *((name, f"{bits:016x}") for name, bits in _signal_sets(t).items()),
        ("CapInh", f"{0:016x}"),
        *((f"Cap{name}", f"{capabilities(process):016x}") for name in ("Prm", "Eff")),
        ("CapBnd", f"{(1 << CAP_LAST + 1) - 1:016x}"),
        ("CapAmb", f"{0:016x}"),
        ("NoNewPrivs", int(t.no_new_privs)),
        ("Seccomp", 0),
        ("Cpus_allowed", 1),
        ("Cpus_allowed_list", 0),
        ("voluntary_ctxt_switches", 0),
        ("nonvoluntary_ctxt_switches", 0),
    ]
    return "".join(f"{name}:\t{value}\n" for name, value in rows).encode("utf-8", "surrogateescape")


def _stat(k: Kernel, t: Task) -> bytes:
    """proc_pid_stat(5): 52 fields; those without a value below are 0."""
    process, mm = t.process, t.mm
    ticks = SECOND // USER_HZ
    sets = _signal_sets(t)
    fields = {
        3: _STATES[t.state][0],
        4: process.ppid,
        5: process.pgid,
        6: process.sid,
        8: -1,  # tpgid: no terminal
        14: process.cpu.user // ticks,
        15: process.cpu.system // ticks,
        16: process.children_cpu.user // ticks,
        17: process.children_cpu.system // ticks,
        18: 20 + t.scheduling.nice,
        19: t.scheduling.nice,
        20: len(process.tasks),
        23: mm.vmas.total if mm else 0,
        24: int(statm(k, t).split()[1]),
        25: RLIM_INFINITY,
        28: mm.stack_start if mm else 0,
        31: sets["SigPnd"] & 0xFFFF_FFFF,
        32: sets["SigBlk"] & 0xFFFF_FFFF,
        33: sets["SigIgn"] & 0xFFFF_FFFF,
        34: sets["SigCgt"] & 0xFFFF_FFFF,
        38: process.exit_signal,
        47: mm.brk_start if mm else 0,
        48: mm.args[0] if mm else 0,
        49: mm.args[1] if mm else 0,
        50: mm.envs[0] if mm else 0,
        51: mm.envs[1] if mm else 0,
    }
    rest = " ".join(str(fields.get(n, 0)) for n in range(3, 53))
    return f"{t.tid} ({t.comm}) {rest}\n".encode("utf-8", "surrogateescape")


# name in RLIMITS -> name and unit in /proc/PID/limits
_LIMITS: Final = {
    "CPU": ("Max cpu time", "seconds"),
    "FSIZE": ("Max file size", "bytes"),
    "DATA": ("Max data size", "bytes"),
    "STACK": ("Max stack size", "bytes"),
    "CORE": ("Max core file size", "bytes"),
    "RSS": ("Max resident set", "bytes"),
    "NPROC": ("Max processes", "processes"),
    "NOFILE": ("Max open files", "files"),
    "MEMLOCK": ("Max locked memory", "bytes"),
    "AS": ("Max address space", "bytes"),
    "LOCKS": ("Max file locks", "locks"),
    "SIGPENDING": ("Max pending signals", "signals"),
    "MSGQUEUE": ("Max msgqueue size", "bytes"),
    "NICE": ("Max nice priority", ""),
    "RTPRIO": ("Max realtime priority", ""),
    "RTTIME": ("Max realtime timeout", "us"),
}


def _limits(k: Kernel, t: Task) -> bytes:
    def show(value: int) -> str:
        return "unlimited" if value == RLIM_INFINITY else str(value)

    rows = [("Limit", "Soft Limit", "Hard Limit", "Units")]
    for name in RLIMITS:
        soft, hard = t.process.rlimits[name]
        rows.append((_LIMITS[name][0], show(soft), show(hard), _LIMITS[name][1]))
    return "".join(f"{a:<25} {b:<20} {c:<20} {d:<10}\n" for a, b, c, d in rows).encode()


def _timerslack(k: Kernel, t: Task) -> bytes:
    return f"{t.timer_slack_ns}\n".encode()


def _personality(k: Kernel, t: Task) -> bytes:
    return f"{t.personality:08x}\n".encode()


def _mounts(k: Kernel, t: Task) -> bytes:
    return b"root / tmpfs rw 0 0\nproc /proc proc rw 0 0\n"


def _mountinfo(k: Kernel, t: Task) -> bytes:
    """The root, and /proc in it; a file system's device number is its mount's id."""
    rows = ((DEV_ROOT, 1, "/", "tmpfs root"), (DEV_PROC, DEV_ROOT, "/proc", "proc proc"))
    return "".join(
        f"{dev} {parent} 0:{dev} / {place} rw - {kind} rw\n" for dev, parent, place, kind in rows
    ).encode()


def fd_info(k: Kernel, t: Task, fd: int) -> bytes:
    """/proc/PID/fdinfo/FD. A file system's device number is its mount's id. Errno ENOENT."""
    file = t.files.slots.get(fd)
    if file is None:
        raise Errno("ENOENT")
    flags = file.flags | O_CLOEXEC * (fd in t.files.cloexec)
    head = f"pos:\t{file.pos}\nflags:\t0{flags:o}\nmnt_id:\t{file.inode.dev}\n"
    held = locks.describe(file, t.files)
    return f"{head}ino:\t{file.inode.ino}\n{held}{file.details(k)}".encode()


TASK_TEXTS: Final[dict[str, TaskText]] = {
    "auxv": TaskText(_auxv, 0o400),
    "cgroup": TaskText(lambda k, t: b"0::/\n"),
    "cmdline": TaskText(_cmdline),
    "comm": TaskText(_comm, 0o644),
    "coredump_filter": TaskText(lambda k, t: b"00000033\n" if t.mm else b"", 0o644),
    "environ": TaskText(_environ, 0o400),
    "limits": TaskText(_limits),
    "maps": TaskText(maps),
    "mountinfo": TaskText(_mountinfo),
    "mounts": TaskText(_mounts),
    "oom_score": TaskText(lambda k, t: b"0\n"),
    "oom_score_adj": TaskText(lambda k, t: b"0\n", 0o644),
    "personality": TaskText(_personality, 0o400),
    "smaps": TaskText(smaps),
    "smaps_rollup": TaskText(smaps_rollup),
    "stat": TaskText(_stat),
    "statm": TaskText(statm),
    "status": TaskText(_status),
    "timerslack_ns": TaskText(_timerslack, 0o666),
    "wchan": TaskText(lambda k, t: b"0"),
}


def _meminfo(k: Kernel) -> str:
    total, free = (n // 1024 for n in memory(k))
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0}
    rows |= {"SwapTotal": 0, "SwapFree": 0}
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items())


def _cpuinfo(k: Kernel) -> str:
    return f"processor\t: 0\nhart\t\t: 0\nisa\t\t: {hwprobe.isa(k)}\nmmu\t\t: sv48\n\n"


def _uptime(k: Kernel) -> str:
    seconds = k.now_ns() / SECOND
    return f"{seconds:.2f} 0.00\n"


def _system_stat(k: Kernel) -> str:
    ticks = k.now_ns() // (SECOND // USER_HZ)
    cpu = f"{ticks} 0 0 0 0 0 0 0 0 0\n"
    return f"cpu  {cpu}cpu0 {cpu}intr 0\nctxt 0\nprocesses {len(k.tasks)}\nprocs_running 1\n"


def _version(k: Kernel) -> str:
    release, build = version(k)
    return f"Linux version {release} (shstk) {build}\n"


SYSTEM_TEXTS: Final[dict[str, Callable[[Kernel], str]]] = {
    "cmdline": lambda k: "\n",
    "cpuinfo": _cpuinfo,
    "filesystems": lambda k: "nodev\ttmpfs\nnodev\tproc\n",
    "loadavg": lambda k: f"0.00 0.00 0.00 1/{len(k.tasks)} {max(k.tasks)}\n",
    "meminfo": _meminfo,
    "modules": lambda k: "",
    "stat": _system_stat,
    "swaps": lambda k: "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
    "uptime": _uptime,
    "version": _version,
}


def system_text(k: Kernel, name: str) -> bytes:
    """The text of /proc/NAME; name may be a path below sys."""
    return (SYSTEM_TEXTS.get(name) or SYSCTLS[name])(k).encode()
