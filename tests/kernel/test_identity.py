"""Process and user ids, and the machine that the guest sees."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

from shstk.tracer.kernel.arch.hwprobe import isa
from shstk.tracer.kernel.process.identity import orphaned
from shstk.tracer.kernel.table import CALLS

OTHER_EXT_0 = {"FD": 0, "C": 1, "Zba": 3, "Zicond": 35, "Zimop": 42, "Zcb": 44, "Zcmop": 47}
OTHER_EXT_0 |= {"Zicbom": 55, "Zicboz": 6, "Zfhmin": 28, "Zfa": 32, "Zacas": 34, "Zabha": 58}
OTHER_EXT_0 |= {"V": 2, "Zve64d": 41, "Zvfhmin": 31, "Zvbb": 17, "Zvkb": 19, "Zvkt": 26}
ZFH, ZVFH, ZIHPM = 27, 30, 51


@pytest.fixture
def d() -> Direct:
    return Direct()


def uname(kernel: str) -> list[str]:
    d = Direct(kernel=kernel)
    addr = d.room(390)
    assert d.call("uname", addr) == 0
    return [f.split(b"\0")[0].decode() for (f,) in struct.iter_unpack("65s", d.get(addr, 390))]


@pytest.mark.parametrize(
    ("kernel", "release"),
    [("7.2", "7.2.13"), ("7.2,exec_lock=kept", "7.2.13"), ("v3", "6.12.0-v3"), ("7.0", "7.0.0")],
)
def test_uname_follows_the_revision(kernel: str, release: str) -> None:
    build = "#1 SMP PREEMPT Wed Apr  3 23:40:54 UTC 2024"
    assert uname(kernel) == ["Linux", "shstk", release, build, "riscv64", "(none)"]


def test_one_ordinary_user(d: Direct) -> None:
    assert {d.call(c) for c in ("getuid", "geteuid", "getgid", "getegid")} == {1000}
    assert d.call("setuid", 1000) == d.call("setresuid", -1, 1000, -1) == 0
    assert d.call("setuid", 0) == d.call("setreuid", 0, -1) == d.call("setgroups", 0, 0) == "EPERM"
    ids = d.room(12)
    d.call("getresgid", ids, ids + 4, ids + 8)
    assert struct.unpack("<3I", d.get(ids, 12)) == (1000,) * 3
    assert d.call("mount", 0, 0, 0, 0, 0) == d.call("sethostname", 0, 0) == "EPERM"
    caps = d.put(b"\xff" * 24)
    assert d.call("capget", struct.pack("<Ii", 0x20080522, 0), caps) == 0
    assert d.get(caps, 24) == bytes(24)
    header = struct.pack("<Ii", 0x20080522, 0)
    assert d.call("capset", header, bytes(24)) == 0
    assert d.call("capset", header, b"\1" + bytes(23)) == "EPERM"


def test_groups_and_sessions(d: Direct) -> None:
    """As if a shell script had started the guest: it leads neither at first."""
    pid = d.t.pid
    assert d.call("getpid") == pid
    assert d.call("getpgid", 0) == d.call("getsid", pid) == pid - 1
    assert orphaned(d.k, d.t.process)
    assert d.call("setpgid", 0, 0) == 0
    assert not orphaned(d.k, d.t.process)
    assert d.call("setsid") == "EPERM"  # it leads its group
    assert d.call("setpgid", 0, pid - 1) == 0
    assert d.call("setsid") == d.call("getpgid", 0) == d.call("getsid", 0) == pid
    assert d.call("setpgid", 0, 0) == "EPERM"  # it leads its session
    assert orphaned(d.k, d.t.process)
    assert d.call("getpgid", 4242) == "ESRCH"


def hwprobe(d: Direct, *keys: int) -> list[tuple[int, int]]:
    pairs = d.put(b"".join(struct.pack("<qQ", key, 0) for key in keys))
    assert d.call("riscv_hwprobe", pairs, len(keys), 0, 0, 0) == 0
    return list(struct.iter_unpack("<qQ", d.get(pairs, 16 * len(keys))))


@pytest.mark.parametrize("cpu", [set(), {"zicfiss"}, {"zicfilp"}, {"zicfiss", "zicfilp"}])
def test_hwprobe_says_what_the_harts_have(d: Direct, cpu: set[str]) -> None:
    """H1: ZICFILP is bit 63 of IMA_EXT_0, ZICFISS bit 0 of key 16."""
    d.k.cpu = frozenset(cpu)
    (_, ext_0), (_, ext_1), unknown = hwprobe(d, 4, 16, 4711)
    assert (ext_0 >> 63, ext_1) == ("zicfilp" in cpu, "zicfiss" in cpu)
    assert all(ext_0 >> bit & 1 for bit in OTHER_EXT_0.values())
    assert not any(ext_0 >> bit & 1 for bit in (ZVFH, ZFH, ZIHPM))
    assert unknown == (-1, 0)


@pytest.mark.parametrize(("kernel", "bits"), [("7.2", 1), ("7.3", 0x3F)])
def test_hwprobe_knows_rva23s_promises_about_memory_from_7_3(kernel: str, bits: int) -> None:
    """ZICFISS, ZICCLSM, ZICCAMOA, ZICCIF, ZICCRSE, ZA64RS: the bits of 7.3's asm/hwprobe.h."""
    d = Direct(kernel=kernel)
    assert hwprobe(d, 16) == [(16, bits)]
    assert ("_za64rs" in isa(d.k)) == (kernel == "7.3")


def test_hwprobe_says_how_large_cache_blocks_are(d: Direct) -> None:
    assert [size for _, size in hwprobe(d, 6, 12, 15)] == [64, 64, 64]


def test_nousercfi_does_not_change_hwprobe(d: Direct) -> None:
    before = hwprobe(d, 4, 16)
    d.k.nousercfi = True
    assert hwprobe(d, 4, 16) == before


def test_hwprobe_which_cpus(d: Direct) -> None:
    def which(key: int, value: int) -> tuple[int, bytes]:
        pair, cpus = d.put(struct.pack("<qQ", key, value)), d.put(bytes([1]) + bytes(7))
        return d.call("riscv_hwprobe", pair, 1, 8, cpus, 1), d.get(cpus, 1)

    assert which(4, 1 << 3) == (0, b"\1")
    assert which(4, 1 << ZVFH) == (0, b"\0")
    assert which(4711, 0) == (0, b"\0")
    assert d.call("riscv_hwprobe", 0, 0, 0, 0, 2) == "EINVAL"


def test_randomness_comes_from_the_seed(d: Direct) -> None:
    def draw(d: Direct) -> bytes:
        addr = d.room(32)
        assert d.call("getrandom", addr, 32, 0) == 32
        return d.get(addr, 32)

    first = draw(d)
    assert first != draw(d)
    assert draw(Direct()) == first
    assert d.call("getrandom", d.room(8), 8, 0x100) == "EINVAL"
    assert d.call("getrandom", 8, 8, 0) == "EFAULT"


def test_one_cpu(d: Direct) -> None:
    mask = d.room(128)
    for size, stored in {8: 8, 16: 16, 32: 32, 40: 32, 128: 32}.items():
        assert d.call("sched_getaffinity", 0, size, mask) == stored
        assert d.get(mask, stored) == b"\1".ljust(stored, b"\0")
    assert d.call("sched_getaffinity", 0, 4, mask) == "EINVAL"
    assert d.call("sched_setaffinity", 0, 8, b"\2" + bytes(7)) == "EINVAL"
    assert d.call("sched_setaffinity", 0, 8, b"\3" + bytes(7)) == 0
    assert d.call("sched_setscheduler", 0, 1, struct.pack("<i", 50)) == "EPERM"
    assert d.call("sched_getscheduler", d.t.tid) == 0
    assert d.call("sched_getscheduler", 4242) == "ESRCH"


def test_nice(d: Direct) -> None:
    assert d.call("getpriority", 0, 0) == 20
    assert d.call("setpriority", 0, 0, 5) == 0
    assert d.call("getpriority", 0, 0) == 15
    assert d.call("setpriority", 0, 0, 4) == "EACCES"


def test_sysinfo(d: Direct) -> None:
    d.k.memory = 512 << 20
    addr = d.room(112)
    assert d.call("sysinfo", addr) == 0
    data = d.get(addr, 112)
    assert struct.unpack_from("<Q", data, 32) == (512 << 20,)
    assert struct.unpack_from("<H", data, 80) == (1,)
    assert struct.unpack_from("<I", data, 104) == (1,)


def test_refusals_say_why_and_refuse(d: Direct) -> None:
    refused = [call for call in CALLS.values() if call.klass == "refused"]
    assert {"rseq", "landlock_create_ruleset", "bpf"} <= {call.name for call in refused}
    for call in refused:
        assert call.why
        answer = d.call(call.name)
        assert isinstance(answer, str), (call.name, answer)
    assert d.call("rseq") == d.call("landlock_create_ruleset") == "ENOSYS"


def test_every_simple_call_says_what_was_left_out() -> None:
    assert {call.klass for call in CALLS.values()} == {"modelled", "simple", "refused"}
    assert [c.name for c in CALLS.values() if c.klass == "simple" and not c.why] == []
