"""The numbers of the interface, held against the headers that ziglang brings for riscv64 Linux."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shstk.schemas import sockopts, uapi
from shstk.schemas.extensions import EXTENSIONS
from shstk.schemas.syscalls import SYSCALLS

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")

# The kernel's own first: what a libc calls the same is not always the same (musl's O_ACCMODE).
HEADERS = {
    "kernel": """
        asm-generic/errno.h asm-generic/ioctls.h asm-generic/siginfo.h asm-generic/socket.h
        asm-generic/termbits.h linux/fiemap.h
        asm/hwprobe.h asm/ptrace.h asm/sigcontext.h asm/unistd.h linux/elf.h linux/eventpoll.h
        linux/fadvise.h linux/falloc.h linux/fcntl.h linux/fs.h linux/futex.h linux/in.h
        linux/in6.h linux/tcp.h linux/udp.h
        linux/inotify.h linux/io_uring.h linux/ioprio.h linux/ipc.h linux/mman.h linux/msg.h
        linux/net.h linux/openat2.h linux/pidfd.h linux/prctl.h linux/ptrace.h linux/resource.h
        linux/sched.h linux/sem.h linux/shm.h linux/sockios.h linux/time.h linux/timerfd.h
        linux/wait.h linux/xattr.h linux/close_range.h linux/memfd.h linux/random.h linux/stat.h
    """,
    "libc": """
        errno.h fcntl.h netinet/in.h sched.h signal.h sys/eventfd.h sys/file.h sys/mman.h
        sys/mount.h sys/resource.h sys/shm.h sys/socket.h time.h unistd.h
    """,
}
NOT_IN_HEADERS = {
    "PAGE": "a size that the kernel is built with",
    "SIGSET_SIZE": "a sizeof",
    **dict.fromkeys((name for name in vars(uapi) if name.startswith("KCMP_")), "an enum"),
    "IOPRIO_WHO_PROCESS": "an enum",
    "IOPRIO_WHO_PGRP": "an enum",
    "IOPRIO_WHO_USER": "an enum",
    "GNU_PROPERTY_RISCV_FEATURE_1_AND": "the psABI's",
    "GNU_PROPERTY_RISCV_FEATURE_1_CFI_LP_UNLABELED": "the psABI's",
    "GNU_PROPERTY_RISCV_FEATURE_1_CFI_SS": "the psABI's",
    "RISCV_HWPROBE_EXT_ZICCLSM": "of 7.3, newer than the headers",
    "RISCV_HWPROBE_EXT_ZICCAMOA": "of 7.3",
    "RISCV_HWPROBE_EXT_ZICCIF": "of 7.3",
    "RISCV_HWPROBE_EXT_ZICCRSE": "of 7.3",
    "RISCV_HWPROBE_EXT_ZA64RS": "of 7.3",
}


def cc(source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-P", "-m", "ziglang", "cc", "-target", "riscv64-linux-musl")
    return subprocess.run(
        [*command, "-w", *options, str(source)], capture_output=True, text=True, check=False
    )


def defined(directory: Path, headers: str) -> tuple[str, set[str]]:
    """The lines that include the headers, and the names of all macros there."""
    lines = "#define _GNU_SOURCE\n" + "".join(f"#include <{name}>\n" for name in headers.split())
    source = directory / "macros.c"
    source.write_text(lines)
    found = cc(source, "-E", "-dM")
    assert found.returncode == 0, found.stderr
    return lines, set(re.findall(r"#define (\w+) .", found.stdout))


def test_the_kernel_headers_say_the_same(tmp_path: Path) -> None:
    left = {name: value for name, value in vars(uapi).items() if type(value) is int}
    left |= uapi.ERRNO | uapi.SIGNALS
    for options in sockopts.OPTIONS.values():
        left |= {name: number for number, name in options.items()}
    left |= {f"RLIMIT_{name}": number for number, name in enumerate(uapi.RLIMITS)}
    left |= {f"__NR_{name}": call.number for name, call in SYSCALLS.items()}
    left |= {
        f"RISCV_HWPROBE_EXT_{extension.name.upper()}": 1 << extension.hwprobe[1]
        for extension in EXTENSIONS.values()
        if extension.hwprobe and len(extension.name) > 1
    }
    newest = {f"__NR_{name}" for name, call in SYSCALLS.items() if call.number > 450}
    dropped = {"__NR_lookup_dcookie", "__NR_nfsservctl"}
    for headers in HEADERS.values():
        lines, macros = defined(tmp_path, headers)
        here = {name: left.pop(name) for name in [*left] if name in macros}
        asserts = (
            f'_Static_assert((long long)({name}) == (long long){value % 2**64}ULL, "{name}");\n'
            for name, value in here.items()
        )
        source = tmp_path / "asserts.c"
        source.write_text(lines + "".join(asserts))
        told = cc(source, "-c", "-o", str(tmp_path / "asserts.o"))
        assert told.returncode == 0, told.stderr
    assert sorted(left.keys() - newest - dropped) == sorted(NOT_IN_HEADERS)
