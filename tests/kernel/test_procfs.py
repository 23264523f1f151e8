"""/proc: its files as Linux prints them, its links, and mem."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.uapi import (
    F_OFD_SETLK,
    F_SETLK,
    MAP_ANONYMOUS,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGE,
)
from shstk.tracer.kernel.task import ZOMBIE, Task

O_RDWR, SEEK_SET = 2, 0
PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS


@pytest.fixture
def d() -> Direct:
    return Direct()


def thread(d: Direct) -> Task:
    """A second thread, as clone would create it."""
    t, tid = d.t, d.k.new_tid()
    assert tid is not None
    assert t.mm is not None
    t.mm.users += 1
    new = Task(tid, t.process, t.hart.copy(), t.mm, t.files.share(), t.fs, "worker")
    t.process.tasks.append(new)
    d.k.tasks[tid] = new
    return new


def areas(text: bytes) -> list[dict[str, Any]]:
    """smaps as one dict per area: the fields of its header and its numbers."""
    out: list[dict[str, Any]] = []
    for line in text.decode().splitlines():
        if header := re.match(r"([0-9a-f]{8,})-([0-9a-f]{8,}) (....) ", line):
            start, end, perms = header.groups()
            out.append({"start": int(start, 16), "end": int(end, 16), "perms": perms})
        else:
            name, _, value = line.partition(":")
            out[-1][name] = value.strip()
    return out


def test_maps_lines_are_linux_s(d: Direct) -> None:
    lines = d.text("/proc/self/maps").decode().splitlines()
    program = lines[0]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{8} rwxp 00000000 00:1e \d+ +/guest", program)
    assert program.index("/guest") == 73
    [stack] = [line for line in lines if line.endswith("[stack]")]
    assert stack.index("[stack]") == 73
    assert f"{d.base:x}-{d.base + (1 << 20):x} rw-p 00000000 00:00 0 " in lines


def test_smaps_shows_shadow_stacks_and_what_is_resident(d: Direct) -> None:
    size = 4 * PAGE
    base = d.mm.map(d.k, 0, size, 3, PRIVATE, shadow_stack=True)
    d.mm.space.ss_write(base + size - 8, 1)
    [area] = [a for a in areas(d.text("/proc/self/smaps")) if "ss" in a["VmFlags"].split()]
    assert (area["start"], area["end"], area["perms"]) == (base, base + size, "rw-p")
    assert (area["Size"], area["Rss"], area["VmFlags"]) == ("16 kB", "4 kB", "rd wr mr mw me ac ss")


@pytest.mark.parametrize(
    ("prot", "perms", "flags"),
    [
        (0, "---p", "mr mw me ac ss"),
        (1, "r--p", "rd mr mw me ac ss"),
        (2, "rw-p", "rd wr mr mw me ac ss"),
        (4, "--xp", "ex mr mw me ac ss"),
        (6, "rwxp", "rd wr ex mr mw me ac ss"),
    ],
)
def test_mprotect_of_a_shadow_stack_as_smaps_shows_it(
    d: Direct, prot: int, perms: str, flags: str
) -> None:
    """Seen on 7.2: PROT_WRITE brings read, and what was once counted for commit stays counted."""
    base = d.mm.map(d.k, 0, PAGE, 3, PRIVATE, shadow_stack=True)
    d.mm.space.ss_write(base, 1)
    assert d.call("mprotect", base, PAGE, prot) == 0
    [area] = [a for a in areas(d.text("/proc/self/smaps")) if a["start"] == base]
    assert (area["perms"], area["VmFlags"]) == (perms, flags)


@pytest.mark.parametrize(
    ("prot", "flags", "touched", "then", "shown"),
    [
        (2, PRIVATE, False, None, "rw-p rd wr mr mw me ac"),
        (1, PRIVATE, False, None, "r--p rd mr mw me"),
        (1, PRIVATE, False, 3, "rw-p rd wr mr mw me ac"),
        (3, PRIVATE, True, 1, "r--p rd mr mw me ac"),
        (3, PRIVATE, False, 1, "r--p rd mr mw me"),
        (3, PRIVATE | MAP_NORESERVE, False, None, "rw-p rd wr mr mw me nr"),
        (3, SHARED, False, None, "rw-s rd wr sh mr mw me ms"),
    ],
)
def test_areas_that_commit_counts(
    d: Direct, prot: int, flags: int, touched: bool, then: int | None, shown: str
) -> None:
    """accountable_mapping and mprotect_fixup: an area of no page yet loses it with PROT_WRITE."""
    base = d.mm.map(d.k, 0, PAGE, prot, flags)
    if touched:
        assert d.mm.space.write(base, b"x")
    if then is not None:
        assert d.call("mprotect", base, PAGE, then) == 0
    [area] = [a for a in areas(d.text("/proc/self/smaps")) if a["start"] == base]
    assert f"{area['perms']} {area['VmFlags']}" == shown


def test_every_smaps_field_is_there_in_order(d: Direct) -> None:
    text = d.text("/proc/self/smaps").decode()
    names = re.findall(r"^([A-Z]\w+):", text, re.M)
    expected = [
        *("Size", "KernelPageSize", "MMUPageSize", "Rss", "Pss", "Pss_Dirty", "Shared_Clean"),
        *("Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM"),
        *("LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb"),
        *("Private_Hugetlb", "Swap", "SwapPss", "Locked", "THPeligible", "VmFlags"),
    ]
    assert names[: len(expected)] == expected
    assert "Size:                  4 kB\nKernelPageSize:        4 kB\n" in text


def test_a_zombie_leader_shows_nothing_but_its_threads_do(d: Direct) -> None:
    """X8: /proc/self is empty once the leader is a zombie; /proc/thread-self works."""
    other = thread(d)
    whole = d.text("/proc/self/maps")
    d.t.mm, d.t.state = None, ZOMBIE
    d.t = other
    assert whole
    assert d.text("/proc/self/smaps") == d.text("/proc/self/maps") == b""
    assert d.text("/proc/thread-self/maps") == whole
    assert d.text(f"/proc/{other.tid}/maps") == whole
    assert len(areas(d.text("/proc/thread-self/smaps"))) == whole.count(b"\n")
    assert b"State:\tZ (zombie)" in d.text("/proc/self/status")
    assert b"VmSize" not in d.text("/proc/self/status")
    assert d.open("/proc/self/exe") == "ENOENT"


def test_threads(d: Direct) -> None:
    other = thread(d)
    assert d.names("/proc/self/task") == [".", "..", str(d.t.tid), str(other.tid)]
    assert d.text(f"/proc/self/task/{other.tid}/comm") == b"worker\n"
    assert str(other.tid) not in d.names("/proc")
    assert str(d.t.pid) in d.names("/proc")
    assert d.open(f"/proc/self/task/{other.tid}/task") == "ENOENT"
    assert d.open("/proc/99999/comm") == "ENOENT"
    fd = d.open(f"/proc/{other.tid}/comm", O_RDWR)
    assert d.write(fd, b"a very long thread name\n") == 24
    assert other.comm == "a very long thr"


def test_who_self_is(d: Direct) -> None:
    addr = d.room(64)
    for name, target in (("self", f"{d.t.pid}"), ("thread-self", f"{d.t.pid}/task/{d.t.tid}")):
        n = d.at("readlinkat", f"/proc/{name}", addr, 64)
        assert d.get(addr, n).decode() == target
    for name, target in (("exe", "/guest"), ("cwd", "/"), ("root", "/"), ("fd/1", "pipe:[2]")):
        n = d.at("readlinkat", f"/proc/self/{name}", addr, 64)
        assert d.get(addr, n).decode() == target
    assert d.text("/proc/self/exe")[:4] == b"\x7fELF"
    assert d.names("/proc/self/fd") == [".", "..", "0", "1", "2", "3"]


def test_what_a_process_was_given(d: Direct) -> None:
    assert d.text("/proc/self/cmdline") == b"guest\0-x\0"
    assert d.text("/proc/self/environ") == b"A=1\0"
    assert d.text("/proc/self/auxv") == d.mm.auxv
    status = dict(re.findall(r"^(\w+):\t *(.*)$", d.text("/proc/self/status").decode(), re.M))
    assert (status["Name"], status["State"], status["Threads"]) == ("guest", "R (running)", "1")
    assert status["Uid"] == "1000\t1000\t1000\t1000"
    fields = d.text("/proc/self/stat").split()
    assert len(fields) == 52
    assert fields[:3] == [str(d.t.pid).encode(), b"(guest)", b"R"]
    assert b"Max stack size            8388608" in d.text("/proc/self/limits")


def mem(d: Direct, addr: int) -> int:
    fd: int = d.open("/proc/self/mem", O_RDWR)
    assert d.call("lseek", fd, addr, SEEK_SET) == addr
    return fd


def test_mem_reads_and_writes_ordinary_pages(d: Direct) -> None:
    word = d.put(b"before..")
    assert d.read(mem(d, word), 8) == b"before.."
    assert d.write(mem(d, word), b"after") == 5
    assert d.get(word, 8) == b"aftere.."
    rows = [r for r in d.rows.tables["kernel_memory"] if r["addr"] == word]
    assert [(r["op"], r["bytes"]) for r in rows] == [("read", b"before.."), ("write", b"after")]


def test_mem_overrides_protections(d: Direct) -> None:
    """V6, with FOLL_FORCE: -EIO only for unmapped memory, or shared memory not writable."""
    stack = d.mm.map(d.k, 0, PAGE, 3, PRIVATE, shadow_stack=True)
    d.mm.space.ss_write(stack, 5)
    assert d.read(mem(d, stack), 8) == (5).to_bytes(8, "little")
    none, readonly = (d.mm.map(d.k, 0, PAGE, prot, PRIVATE) for prot in (0, 1))
    for addr in (stack, readonly, none):
        assert d.write(mem(d, addr), b"override") == 8
        assert d.read(mem(d, addr), 8) == b"override"
    shared = d.mm.map(d.k, 0, PAGE, 1, SHARED)
    assert d.read(mem(d, shared), 8) == bytes(8)
    assert d.write(mem(d, shared), b"override") == "EIO"
    assert d.read(mem(d, 8), 8) == "EIO"
    # A transfer that starts in mapped pages stops at their end.
    pages = d.mm.map(d.k, 0, 2 * PAGE, 3, PRIVATE)
    d.mm.unmap(d.k, pages + PAGE, PAGE)
    assert len(d.read(mem(d, pages + PAGE - 10), 100)) == 10


def test_mem_belongs_to_the_address_space_it_was_opened_for(d: Direct) -> None:
    fd = mem(d, d.base)
    d.t.mm = d.mm.copy(77, {})
    assert d.read(fd, 8) == b""


def test_a_text_is_written_anew_when_read_from_the_start(d: Direct) -> None:
    fd = d.open("/proc/self/maps")
    before = d.read(fd)
    d.mm.map(d.k, 0, PAGE, 1, PRIVATE)
    assert d.read(fd) == b""
    assert d.call("lseek", fd, 0, SEEK_SET) == 0
    assert len(d.read(fd)) > len(before)


def test_the_system_is_the_run_s_own(d: Direct) -> None:
    assert d.text("/proc/sys/kernel/pid_max") == b"32768\n"
    assert d.text("/proc/sys/kernel/osrelease") == b"7.2.13\n"
    assert b"MemTotal:        4194304 kB" in d.text("/proc/meminfo")
    assert d.text("/proc/cpuinfo").count(b"processor") == 1
    assert b"_zicfilp_zicfiss" in d.text("/proc/cpuinfo")
    assert d.open("/proc/sys/kernel/pid_max", O_RDWR) == "EACCES"
    assert d.at("unlinkat", "/proc/meminfo", 0) == "EACCES"
    assert d.at("mkdirat", "/proc/d", 0o777) == "EACCES"


def test_every_name_listed_can_be_opened(d: Direct) -> None:
    def visit(path: str) -> None:
        for name in d.names(path)[2:]:
            below = f"{path}/{name}"
            found = d.stat(below, 0x100)
            assert isinstance(found, dict), below
            if found["mode"] >> 12 == 4 and name not in ("1", "task", "fd", "fdinfo"):
                visit(below)
            elif found["mode"] >> 12 == 8:
                fd = d.open(below)
                assert d.call("close", fd) == 0, below
            d.next = d.base

    visit("/proc")


def test_what_fdinfo_says_of_each_kind(d: Direct) -> None:
    def of(fd: int) -> str:
        return str(d.text(f"/proc/self/fdinfo/{fd}").decode().split("ino:\t")[1].partition("\n")[2])

    fd = d.call("timerfd_create", 1, 0)
    assert d.call("timerfd_settime", fd, 0, struct.pack("<4q", 2, 5, 3, 0), 0) == 0
    assert of(fd) == (
        "clockid: 1\nticks: 0\nsettime flags: 00\nit_value: (3, 0)\nit_interval: (2, 5)\n"
    )
    assert of(d.open("/dev/ptmx", O_RDWR)) == "tty-index:\t0\n"
    d.save("/tmp/f", b"")
    fd, pid = d.open("/tmp/f", O_RDWR), d.t.pid
    (ino,) = struct.unpack_from("<Q", d.get(stat_of(d, fd), 128), 8)
    assert d.call("flock", fd, 2) == 0
    assert d.call("fcntl", fd, F_SETLK, struct.pack("<hh4xqqi4x", 0, 0, 5, 2, 0)) == 0
    assert d.call("fcntl", fd, F_OFD_SETLK, struct.pack("<hh4xqqi4x", 1, 0, 9, 0, 0)) == 0
    assert of(fd) == (
        f"lock:\t1: FLOCK  ADVISORY  WRITE {pid} 00:1e:{ino} 0 EOF\n"
        f"lock:\t2: POSIX  ADVISORY  READ {pid} 00:1e:{ino} 5 6\n"
        f"lock:\t3: OFDLCK ADVISORY  WRITE -1 00:1e:{ino} 9 EOF\n"
    )


def stat_of(d: Direct, fd: int) -> int:
    at = d.room(128)
    assert d.call("fstat", fd, at) == 0
    return at


def test_values_of_a_kernel_that_was_just_booted(d: Direct) -> None:
    for name, value in {
        "kernel/tainted": "0",
        "kernel/randomize_va_space": "0",
        "net/core/somaxconn": "4096",
        "net/ipv4/ip_local_port_range": "32768\t60999",
    }.items():
        assert d.text(f"/proc/sys/{name}") == f"{value}\n".encode()
        assert d.open(f"/proc/sys/{name}", O_RDWR) == "EACCES"
    one, other = (d.text("/proc/sys/kernel/random/uuid").decode() for _ in range(2))
    assert one != other
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4\w{3}-[89ab]\w{3}-\w{12}\n", one)
