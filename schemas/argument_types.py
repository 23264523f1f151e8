"""The types of system call arguments that take named constants: a set of bits, or one value.

The names are used in the rows of syscalls.py. replay/decode.py formats the other types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shstk.schemas import sockopts, uapi
from shstk.schemas.uapi import RLIMITS, constants

_OF_MSGCTL: Final = ("MSG_STAT", "MSG_INFO")

FLAGS: Final[Mapping[str, Mapping[str, int]]] = {
    "access": constants("R_OK", "W_OK", "X_OK"),
    "at": constants("AT_", but=("AT_FDCWD", "AT_EACCESS")),
    "cfi": constants("PR_CFI_ENABLE", "PR_CFI_DISABLE", "PR_CFI_LOCK"),
    "clone": constants("CLONE_"),
    "close_range": constants("CLOSE_RANGE_"),
    "epoll": constants("EPOLL_", but=("EPOLL_CTL_",)),
    "eventfd": constants("EFD_"),
    "fallocate": constants("FALLOC_FL_"),
    "fd_flags": constants("FD_CLOEXEC"),
    "flock": constants("LOCK_"),
    "getrandom": constants("GRND_"),
    "inotify": constants("IN_", but=("IN_NONBLOCK", "IN_CLOEXEC")),
    "inotify_init": constants("IN_NONBLOCK", "IN_CLOEXEC"),
    "ipc": constants("IPC_CREAT", "IPC_EXCL", "IPC_NOWAIT"),
    "map": constants("MAP_", but=("MAP_TYPE", "MAP_SHARED_VALIDATE")),
    "memfd": constants("MFD_"),
    "mlock2": constants("MLOCK_"),
    "mlockall": constants("MCL_"),
    "mremap": constants("MREMAP_"),
    "msg": constants("MSG_", but=("MSG_NOERROR", "MSG_EXCEPT", "MSG_COPY", *_OF_MSGCTL)),
    "msgrcv": constants("IPC_NOWAIT", "MSG_NOERROR", "MSG_EXCEPT", "MSG_COPY"),
    "msync": constants("MS_"),
    "new_fd": constants("O_NONBLOCK", "O_DIRECT", "O_CLOEXEC"),
    "open": constants("O_", but=("O_RDONLY", "O_ACCMODE", "O_TMPFILE")),
    "pidfd": constants("PIDFD_NONBLOCK", "PIDFD_THREAD"),
    "pidfd_signal": constants("PIDFD_SIGNAL_"),
    "prot": constants("PROT_"),
    "rename": constants("RENAME_"),
    "rwf": constants("RWF_"),
    "shmat": constants("SHM_RDONLY", "SHM_RND", "SHM_REMAP", "SHM_EXEC"),
    "shstk": constants("SHADOW_STACK_"),
    "shstk_status": constants("PR_SHADOW_STACK_"),
    "socket": constants("SOCK_CLOEXEC", "SOCK_NONBLOCK"),
    "splice": constants("SPLICE_F_"),
    "statx": constants("STATX_"),
    "sync_file_range": constants("SYNC_FILE_RANGE_"),
    "timer": constants("TIMER_"),
    "timerfd": constants("TFD_", but=("TFD_TIMER_",)),
    "timerfd_settime": constants("TFD_TIMER_"),
    "umount": constants("MNT_", "UMOUNT_"),
    "wait": constants("W", "__W", but=("W_OK",)),
    "xattr": constants("XATTR_"),
}


def _one_of(*starts: str, but: tuple[str, ...] = ()) -> dict[int, str]:
    return {value: name for name, value in constants(*starts, but=but).items()}


ENUMS: Final[Mapping[str, Mapping[int, str]]] = {
    "clock": _one_of("CLOCK_"),
    "epoll_ctl": _one_of("EPOLL_CTL_"),
    "cfi_kind": _one_of("PR_CFI_BRANCH_LANDING_PADS"),
    "fadvise": _one_of("POSIX_FADV_"),
    "family": _one_of("AF_"),
    "fcntl": _one_of("F_", but=("F_RDLCK", "F_WRLCK", "F_UNLCK", "F_OWNER_", "F_SEAL_")),
    "futex": _one_of("FUTEX_", but=("FUTEX_PRIVATE_FLAG", "FUTEX_CLOCK_REALTIME")),
    "idtype": _one_of("P_"),
    "ioctl": _one_of("TC", "TIOC", "FIO", "SIOCA", "SIOCG", "SIOCS"),
    "ioprio": _one_of("IOPRIO_WHO_"),
    "ipc_cmd": _one_of(
        "IPC_", "SHM_LOCK", "SHM_UNLOCK", "SHM_STAT", "SHM_INFO", but=tuple(FLAGS["ipc"])
    ),
    "itimer": _one_of("ITIMER_"),
    "kcmp": _one_of("KCMP_"),
    "madvise": _one_of("MADV_"),
    "msg_cmd": _one_of("IPC_", *_OF_MSGCTL, but=tuple(FLAGS["ipc"])),
    "prctl": _one_of("PR_", but=("PR_SHADOW_STACK_", "PR_CFI_")),
    "priority": _one_of("PRIO_"),
    "ptrace": _one_of("PTRACE_", but=("PTRACE_CFI_",)),
    "rlimit": {number: f"RLIMIT_{name}" for number, name in enumerate(RLIMITS)},
    "rusage": _one_of("RUSAGE_"),
    "sched": _one_of("SCHED_"),
    "sem_cmd": _one_of("IPC_", "GET", "SET", "SEM_", but=("SEM_UNDO", *FLAGS["ipc"])),
    "shutdown": _one_of("SHUT_"),
    "sigmask": _one_of("SIG_"),
    "sockopt_level": sockopts.LEVELS,
    **{f"sockopt_{level}": options for level, options in sockopts.OPTIONS.items()},
    "socktype": _one_of("SOCK_", but=("SOCK_CLOEXEC", "SOCK_NONBLOCK")),
    "whence": _one_of("SEEK_"),
}


UNREAD: Final = "-"  # the type of an argument whose register the kernel does not read


class Command(NamedTuple):
    """A call whose other arguments depend on one. types: its value -> argument -> type, or UNREAD.
    mask: the bits of it that count."""

    argument: str
    types: Mapping[int, Mapping[str, str]]
    mask: int = ~0


_NO_ARG: Final = {"arg": UNREAD}
_NO_ARG2: Final = {f"arg{n}": UNREAD for n in (2, 3, 4, 5)}
_NO_ARG3: Final = {f"arg{n}": UNREAD for n in (3, 4, 5)}


def _futex(arguments: str) -> dict[str, str]:
    """What one operation of futex(2) reads after futex_op, and under which type (do_futex())."""
    read = dict(word.split(":") for word in arguments.split())
    return {name: read.get(name, UNREAD) for name in ("val", "utime", "uaddr2", "val3")}


COMMANDS: Final[Mapping[str, Command]] = {
    "prctl": Command(
        "option",
        {
            uapi.PR_SET_SHADOW_STACK_STATUS: {"arg2": "shstk_status"},
            uapi.PR_LOCK_SHADOW_STACK_STATUS: {"arg2": "shstk_status"},
            uapi.PR_GET_SHADOW_STACK_STATUS: {"arg2": "ptr"},
            uapi.PR_SET_CFI: {"arg2": "cfi_kind", "arg3": "cfi"},
            uapi.PR_GET_CFI: {"arg2": "cfi_kind", "arg3": "ptr"},
            # Only where sys_prctl() ignores the others: most of the newer ones must be given 0.
            uapi.PR_SET_PDEATHSIG: {"arg2": "sig", **_NO_ARG3},
            uapi.PR_GET_PDEATHSIG: {"arg2": "ptr", **_NO_ARG3},
            uapi.PR_SET_NAME: {"arg2": "str", **_NO_ARG3},
            uapi.PR_GET_NAME: {"arg2": "ptr", **_NO_ARG3},
            uapi.PR_GET_DUMPABLE: _NO_ARG2,
            uapi.PR_SET_DUMPABLE: _NO_ARG3,
            uapi.PR_GET_KEEPCAPS: _NO_ARG2,
            uapi.PR_SET_KEEPCAPS: _NO_ARG3,
            uapi.PR_CAPBSET_READ: _NO_ARG3,
            uapi.PR_CAPBSET_DROP: _NO_ARG3,
            uapi.PR_GET_SECUREBITS: _NO_ARG2,
            uapi.PR_SET_SECUREBITS: _NO_ARG3,
            uapi.PR_GET_TIMERSLACK: _NO_ARG2,
            uapi.PR_SET_TIMERSLACK: _NO_ARG3,
            uapi.PR_SET_CHILD_SUBREAPER: _NO_ARG3,
            uapi.PR_GET_CHILD_SUBREAPER: {"arg2": "ptr", **_NO_ARG3},
            uapi.PR_GET_TID_ADDRESS: {"arg2": "ptr", **_NO_ARG3},
        },
    ),
    "fcntl": Command(
        "cmd",
        {
            uapi.F_DUPFD: {"arg": "fd"},
            uapi.F_DUPFD_CLOEXEC: {"arg": "fd"},
            uapi.F_SETFD: {"arg": "fd_flags"},
            uapi.F_SETFL: {"arg": "open"},
            uapi.F_GETLK: {"arg": "ptr"},
            uapi.F_SETLK: {"arg": "ptr"},
            uapi.F_SETLKW: {"arg": "ptr"},
            uapi.F_OFD_GETLK: {"arg": "ptr"},
            uapi.F_GETFD: _NO_ARG,
            uapi.F_GETFL: _NO_ARG,
            uapi.F_GETOWN: _NO_ARG,
            uapi.F_GETSIG: _NO_ARG,
            uapi.F_GETLEASE: _NO_ARG,
            uapi.F_GETPIPE_SZ: _NO_ARG,
            uapi.F_GET_SEALS: _NO_ARG,
        },
    ),
    "ioctl": Command(
        "cmd",
        {
            uapi.TCGETS: {"arg": "ptr"},
            uapi.TCGETS2: {"arg": "ptr"},
            uapi.TIOCGWINSZ: {"arg": "ptr"},
            uapi.TIOCGPGRP: {"arg": "ptr"},
            uapi.TIOCGPTN: {"arg": "ptr"},
            uapi.FIONREAD: {"arg": "ptr"},
            uapi.FIOCLEX: _NO_ARG,
            uapi.FIONCLEX: _NO_ARG,
            uapi.TIOCNOTTY: _NO_ARG,
        },
    ),
    "futex": Command(
        "op",
        {
            uapi.FUTEX_WAIT: _futex("val:uint utime:ptr"),
            uapi.FUTEX_WAKE: _futex("val:uint"),
            uapi.FUTEX_REQUEUE: _futex("val:uint utime:uint uaddr2:ptr"),
            uapi.FUTEX_CMP_REQUEUE: _futex("val:uint utime:uint uaddr2:ptr val3:uint"),
            uapi.FUTEX_WAKE_OP: _futex("val:uint utime:uint uaddr2:ptr val3:hex"),
            uapi.FUTEX_LOCK_PI: _futex("utime:ptr"),
            uapi.FUTEX_LOCK_PI2: _futex("utime:ptr"),
            uapi.FUTEX_UNLOCK_PI: _futex(""),
            uapi.FUTEX_TRYLOCK_PI: _futex(""),
            uapi.FUTEX_WAIT_BITSET: _futex("val:uint utime:ptr val3:hex"),
            uapi.FUTEX_WAKE_BITSET: _futex("val:uint val3:hex"),
            uapi.FUTEX_WAIT_REQUEUE_PI: _futex("val:uint utime:ptr uaddr2:ptr"),
            uapi.FUTEX_CMP_REQUEUE_PI: _futex("val:uint utime:uint uaddr2:ptr val3:uint"),
        },
        ~(uapi.FUTEX_PRIVATE_FLAG | uapi.FUTEX_CLOCK_REALTIME),
    ),
    **dict.fromkeys(
        ("getsockopt", "setsockopt"),
        Command("level", {level: {"optname": f"sockopt_{level}"} for level in sockopts.OPTIONS}),
    ),
    "ptrace": Command(
        "request", {uapi.PTRACE_TRACEME: {"pid": UNREAD, "addr": UNREAD, "data": UNREAD}}
    ),
    "semctl": Command(
        "cmd",
        {
            command: {"arg": UNREAD}
            for command in (uapi.IPC_RMID, uapi.GETPID, uapi.GETVAL, uapi.GETNCNT, uapi.GETZCNT)
        },
    ),
}

# call -> the argument with flags, then others -> the flags of which one must be set for the kernel
# to read them
READ_WITH: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {
    "openat": ("flags", {"mode": uapi.O_CREAT | uapi.O_TMPFILE & ~uapi.O_DIRECTORY}),
    "mq_open": ("oflag", {"mode": uapi.O_CREAT, "attr": uapi.O_CREAT}),
    "mremap": ("flags", {"new_addr": uapi.MREMAP_FIXED | uapi.MREMAP_DONTUNMAP}),
    "clone": (
        "clone_flags",
        {
            "parent_tidptr": uapi.CLONE_PARENT_SETTID | uapi.CLONE_PIDFD,
            "tls": uapi.CLONE_SETTLS,
            "child_tidptr": uapi.CLONE_CHILD_SETTID | uapi.CLONE_CHILD_CLEARTID,
        },
    ),
}
