"""Which system calls are meant: names and groups, in strace's words (-e trace=…)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from shstk.schemas.errors import UsageError
from shstk.schemas.nearest import did_you_mean
from shstk.schemas.syscalls import SYSCALLS, Syscall

_PATHS: Final = (  # names of string arguments that are paths
    "pathname", "filename", "path", "oldname", "newname", "name", "dev_name", "dir_name",
    "new_root", "put_old", "special", "specialfile", "from_pathname", "to_pathname",
)  # fmt: skip
_NO_PATHS: Final = (  # calls whose `name` is something else
    "sethostname", "setdomainname", "mq_open", "mq_unlink", "fsetxattr", "fgetxattr",
    "fremovexattr",
)  # fmt: skip
_LISTED: Final = {
    "memory": """brk mmap munmap mremap mprotect pkey_mprotect msync madvise process_madvise mlock
        mlock2 munlock mlockall munlockall mincore mbind get_mempolicy set_mempolicy
        set_mempolicy_home_node migrate_pages move_pages remap_file_pages shmat shmdt
        map_shadow_stack mseal""",
    "process": """clone clone3 execve execveat exit exit_group wait4 waitid unshare kill tkill
        tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal process_mrelease""",
    "signal": """rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend
        rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack signalfd4 kill tkill tgkill
        pidfd_send_signal""",
    "ipc": """msgget msgctl msgrcv msgsnd semget semctl semtimedop semop shmget shmctl shmat
        shmdt""",
    "network": """socket socketpair bind listen accept accept4 connect getsockname getpeername
        sendto recvfrom setsockopt getsockopt shutdown sendmsg recvmsg sendmmsg recvmmsg""",
    "clock": """clock_gettime clock_settime clock_getres clock_adjtime gettimeofday settimeofday
        adjtimex times""",
    "creds": """getuid geteuid getgid getegid setuid setgid setreuid setregid setresuid setresgid
        getresuid getresgid setfsuid setfsgid getgroups setgroups capget capset prctl""",
    "cfi": """prctl map_shadow_stack clone clone3 execve execveat exit exit_group sigaltstack
        rt_sigreturn""",
}  # fmt: skip
_DERIVED: Final = {
    "file": "a path among the arguments",
    "desc": "a descriptor among the arguments or the result",
}
GROUPS: Final = (*_DERIVED, *_LISTED)


class Calls(NamedTuple):
    """numbers: these calls; with `rest`, all others."""

    numbers: frozenset[int]
    rest: bool


def choose(text: str) -> Calls:
    """The calls of a list such as `openat,%memory`, `%file,!statx` or `all`. A list that begins
    with ! names what to leave out of all calls.

    Raises UsageError: no call, or no group, has that name.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("--calls names no call", "such as --calls openat,%memory")
    if words[0].startswith("!"):
        return Calls(_all_of(word.removeprefix("!") for word in words), rest=True)
    named = _all_of(word for word in words if not word.startswith("!") and word != "all")
    without = _all_of(word[1:] for word in words if word.startswith("!"))
    return Calls(without, True) if "all" in words else Calls(named - without, False)


def _all_of(words: Iterable[str]) -> frozenset[int]:
    return frozenset(number for word in words for number in _named(word))


def _named(word: str) -> set[int]:
    if word.startswith("%"):
        return {call.number for call in _group(word.removeprefix("%"))}
    if word not in SYSCALLS:
        near = did_you_mean(word, SYSCALLS)
        known = near or "`shstk syscalls` lists them; groups are " + " ".join(_spelled(GROUPS))
        raise UsageError(f"--calls {word}: riscv64 has no such call", known)
    return {SYSCALLS[word].number}


def _group(name: str) -> list[Syscall]:
    if name == "file":
        return [c for c in SYSCALLS.values() if c.name == "getcwd" or _takes_a_path(c)]
    if name == "desc":
        return [c for c in SYSCALLS.values() if c.returns == "fd" or _takes_a_descriptor(c)]
    if name not in _LISTED:
        near = did_you_mean(name, GROUPS)
        raise UsageError(
            f"--calls %{name}: there is no such group", near or " ".join(_spelled(GROUPS))
        )
    return [SYSCALLS[call] for call in _LISTED[name].split()]


def _spelled(groups: tuple[str, ...]) -> list[str]:
    return [f"%{group}" for group in groups]


def _takes_a_path(call: Syscall) -> bool:
    return call.name not in _NO_PATHS and any(
        a.type == "str" and a.name in _PATHS for a in call.arguments
    )


def _takes_a_descriptor(call: Syscall) -> bool:
    return any(a.type in ("fd", "dirfd") for a in call.arguments) or call.name in (
        "pipe2", "socketpair", "ppoll", "pselect6", "close_range",
    )  # fmt: skip
