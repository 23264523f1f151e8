"""The types of system call arguments that take named constants: a set of bits, or one value.

The names are used in the rows of syscalls.py. replay/decode.py formats the other types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shstk.schemas import uapi
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
    "socktype": _one_of("SOCK_", but=("SOCK_CLOEXEC", "SOCK_NONBLOCK")),
    "whence": _one_of("SEEK_"),
}


class Command(NamedTuple):
    """A call whose other arguments depend on one. types: its value -> argument -> type."""

    argument: str
    types: Mapping[int, Mapping[str, str]]


COMMANDS: Final[Mapping[str, Command]] = {
    "prctl": Command(
        "option",
        {
            uapi.PR_SET_SHADOW_STACK_STATUS: {"arg2": "shstk_status"},
            uapi.PR_LOCK_SHADOW_STACK_STATUS: {"arg2": "shstk_status"},
            uapi.PR_GET_SHADOW_STACK_STATUS: {"arg2": "ptr"},
            uapi.PR_SET_CFI: {"arg2": "cfi_kind", "arg3": "cfi"},
            uapi.PR_GET_CFI: {"arg2": "cfi_kind", "arg3": "ptr"},
            uapi.PR_SET_PDEATHSIG: {"arg2": "sig"},
            uapi.PR_GET_PDEATHSIG: {"arg2": "ptr"},
            uapi.PR_SET_NAME: {"arg2": "str"},
            uapi.PR_GET_NAME: {"arg2": "ptr"},
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
        },
    ),
}
