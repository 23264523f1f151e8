"""The types of system call arguments that take named constants: a set of bits, or one value.

The names are used in the rows of syscalls.py. replay/decode.py formats the other types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shstk.schemas.uapi import RLIMITS, constants

_OF_MSGCTL: Final = ("MSG_STAT", "MSG_INFO")

FLAGS: Final[Mapping[str, Mapping[str, int]]] = {
    "at": constants("AT_", but=("AT_FDCWD", "AT_EACCESS")),
    "clone": constants("CLONE_"),
    "epoll": constants("EPOLL_", but=("EPOLL_CTL_",)),
    "eventfd": constants("EFD_"),
    "flock": constants("LOCK_"),
    "inotify": constants("IN_", but=("IN_NONBLOCK", "IN_CLOEXEC")),
    "inotify_init": constants("IN_NONBLOCK", "IN_CLOEXEC"),
    "ipc": constants("IPC_CREAT", "IPC_EXCL", "IPC_NOWAIT"),
    "map": constants("MAP_", but=("MAP_TYPE", "MAP_SHARED_VALIDATE")),
    "mlock2": constants("MLOCK_"),
    "mlockall": constants("MCL_"),
    "mremap": constants("MREMAP_"),
    "msg": constants("MSG_", but=("MSG_NOERROR", "MSG_EXCEPT", "MSG_COPY", *_OF_MSGCTL)),
    "msgrcv": constants("IPC_NOWAIT", "MSG_NOERROR", "MSG_EXCEPT", "MSG_COPY"),
    "new_fd": constants("O_NONBLOCK", "O_DIRECT", "O_CLOEXEC"),
    "open": constants("O_", but=("O_RDONLY", "O_ACCMODE", "O_TMPFILE")),
    "pidfd": constants("PIDFD_NONBLOCK", "PIDFD_THREAD"),
    "pidfd_signal": constants("PIDFD_SIGNAL_"),
    "prot": constants("PROT_"),
    "rwf": constants("RWF_"),
    "shmat": constants("SHM_RDONLY", "SHM_RND", "SHM_REMAP", "SHM_EXEC"),
    "shstk": constants("SHADOW_STACK_"),
    "splice": constants("SPLICE_F_"),
    "timer": constants("TIMER_"),
    "timerfd": constants("TFD_", but=("TFD_TIMER_",)),
    "timerfd_settime": constants("TFD_TIMER_"),
    "wait": constants("W", "__W"),
    "xattr": constants("XATTR_"),
}


def _one_of(*starts: str, but: tuple[str, ...] = ()) -> dict[int, str]:
    return {value: name for name, value in constants(*starts, but=but).items()}


ENUMS: Final[Mapping[str, Mapping[int, str]]] = {
    "clock": _one_of("CLOCK_"),
    "epoll_ctl": _one_of("EPOLL_CTL_"),
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
    "kcmp": _one_of("KCMP_"),
    "madvise": _one_of("MADV_"),
    "msg_cmd": _one_of("IPC_", *_OF_MSGCTL, but=tuple(FLAGS["ipc"])),
    "prctl": _one_of("PR_", but=("PR_SHADOW_STACK_", "PR_CFI_")),
    "priority": _one_of("PRIO_"),
    "ptrace": _one_of("PTRACE_", but=("PTRACE_CFI_",)),
    "rlimit": {number: f"RLIMIT_{name}" for number, name in enumerate(RLIMITS)},
    "sched": _one_of("SCHED_"),
    "sem_cmd": _one_of("IPC_", "GET", "SET", "SEM_", but=("SEM_UNDO", *FLAGS["ipc"])),
    "sigmask": _one_of("SIG_"),
    "socktype": _one_of("SOCK_"),
    "whence": _one_of("SEEK_"),
}
