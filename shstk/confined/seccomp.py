"""A filter of system calls: what no recorder needs is refused with EPERM.

It names what is refused, and not what is allowed: Python, Arrow and Polars call what they like,
and a newer one must not break. pyseccomp would write the same table, but needs libseccomp, a
library of the system; here is one program of classic BPF, and two numbers a call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Any, Final, NamedTuple

from shstk.schemas.syscalls import SYSCALLS

_FILTER: Final = 1  # SECCOMP_SET_MODE_FILTER
_ALL_THREADS: Final = 1  # SECCOMP_FILTER_FLAG_TSYNC
_ALLOW: Final = 0x7FFF_0000
_REFUSE: Final = 0x0005_0000 | 1  # SECCOMP_RET_ERRNO, EPERM
_AF_UNIX: Final = 1
_AF_INET: Final = (2, 10)  # AF_INET, AF_INET6
_X32: Final = 1 << 30  # the other table of x86-64

# struct seccomp_data, on little-endian machines.
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
# linux/bpf_common.h
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

# Call -> its number on x86-64; elsewhere it has the generic number, as on riscv64.
_REFUSED: Final = {
    "ptrace": 101,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "pidfd_getfd": 438,
    "kcmp": 312,
    "mount": 165,
    "umount2": 166,
    "pivot_root": 155,
    "chroot": 161,
    "move_mount": 429,
    "open_tree": 428,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "init_module": 175,
    "finit_module": 313,
    "delete_module": 176,
    "kexec_load": 246,
    "kexec_file_load": 320,
    "bpf": 321,
    "perf_event_open": 298,
    "keyctl": 250,
    "add_key": 248,
    "request_key": 249,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "userfaultfd": 323,
    "setns": 308,
    "unshare": 272,
    "acct": 163,
    "quotactl": 179,
    "sethostname": 170,
    "setdomainname": 171,
    "settimeofday": 164,
    "clock_settime": 227,
    "clock_adjtime": 305,
    "adjtimex": 159,
    "syslog": 103,
    "open_by_handle_at": 304,
    "fanotify_init": 300,
    "lookup_dcookie": 212,
}
_PROGRAMS: Final = {"execve": 59, "execveat": 322}
_SOCKET: Final = {"socket": 41}
_X86_ONLY: Final = (172, 173, 134, 154)  # iopl, ioperm, uselib, modify_ldt


class _Machine(NamedTuple):
    audit: int  # AUDIT_ARCH_*
    seccomp: int  # the number of seccomp(2)


_MACHINES: Final = {
    "x86_64": _Machine(0xC000_003E, 317),
    "aarch64": _Machine(0xC000_00B7, 277),
    "riscv64": _Machine(0xC000_00F3, 277),
}


def restrict(libc: Any, tcp: bool, programs: bool) -> str:
    """Of all threads of this process, and what it starts. Returns why not, or nothing."""
    name = platform.machine()
    machine = _MACHINES.get(name)
    if machine is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"no filter of system calls for {name}"
    code = _program(name, machine, tcp, programs)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(held))
    done = libc.syscall(machine.seccomp, _FILTER, _ALL_THREADS, program)
    return "" if done == 0 else f"no filter of system calls: {os.strerror(ctypes.get_errno())}"


def _program(name: str, machine: _Machine, tcp: bool, programs: bool) -> bytes:
    """struct sock_filter: code, how many to skip if true and if false, an operand."""
    refused = _numbers(_REFUSED | ({} if programs else _PROGRAMS), name)
    refused += _X86_ONLY if name == "x86_64" else ()
    families = (_AF_UNIX, *(_AF_INET if tcp else ()))
    (socket,) = _numbers(_SOCKET, name)
    steps = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, machine.audit), (_RETURN, 0, 0, _REFUSE)]
    steps += [(_LOAD, 0, 0, _NUMBER)]
    if name == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    steps += [(_EQUAL, 0, 3 + len(families), socket), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    steps += [(_EQUAL, len(families) - at, 0, family) for at, family in enumerate(families)]
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    steps += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _numbers(calls: dict[str, int], machine: str) -> tuple[int, ...]:
    if machine == "x86_64":
        return tuple(calls.values())
    return tuple(SYSCALLS[name].number for name in calls)
