"""riscv_hwprobe(2) and riscv_flush_icache(2): what the executor's harts can do."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.extensions import EXTENSIONS, IMA_EXT_0, IMA_EXT_1, Extension
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_WHICH_CPUS: Final = 1
_PAIRS_MAX: Final = 1 << 16

_CACHE_BLOCK: Final = 64


def extensions(k: Kernel) -> Iterator[Extension]:
    """The extensions that the revision has a name for."""
    rva23 = k.row["ima_ext_1"] == "rva23"
    return (e for e in EXTENSIONS.values() if rva23 or not e.rva23)


def isa(k: Kernel) -> str:
    """The ISA string of /proc/cpuinfo. The optional extensions come last, sorted by name."""
    always = [e.name for e in extensions(k) if not e.optional]
    letters = "".join(name for name in always if len(name) == 1)
    names = [name for name in always if len(name) > 1]
    return "_".join((f"rv64{letters}", *names, *sorted(k.cpu)))


def _bits(k: Kernel, key: int) -> int:
    """The bits of a key for the extensions that the harts have."""
    has = (e for e in extensions(k) if not e.optional or e.name in k.cpu)
    bits = {e.hwprobe[1] for e in has if e.hwprobe and e.hwprobe[0] == key}
    return sum(1 << bit for bit in bits)


def values(k: Kernel) -> dict[int, int]:
    """Key -> value. riscv_nousercfi changes nothing here (seen on 7.2.13)."""
    return {
        0: 0,  # MVENDORID, MARCHID, MIMPID
        1: 0,
        2: 0,
        3: 1,  # BASE_BEHAVIOR: IMA
        IMA_EXT_0: _bits(k, IMA_EXT_0),
        5: 3,  # CPUPERF_0, MISALIGNED_SCALAR_PERF: fast
        6: _CACHE_BLOCK,  # ZICBOZ_BLOCK_SIZE
        7: (1 << 47) - 1,  # HIGHEST_VIRT_ADDRESS
        8: 10**9,  # TIME_CSR_FREQ: one tick a nanosecond
        9: 3,
        10: 3,  # MISALIGNED_VECTOR_PERF: fast
        11: 0,  # VENDOR_EXT_THEAD_0; 13: SIFIVE, 14: MIPS
        12: _CACHE_BLOCK,  # ZICBOM_BLOCK_SIZE
        13: 0,
        14: 0,
        15: _CACHE_BLOCK,  # ZICBOP_BLOCK_SIZE
        IMA_EXT_1: _bits(k, IMA_EXT_1),
    }


def sys_riscv_hwprobe(k: Kernel, t: Task, a: Args) -> int:
    pairs, count, cpusetsize, cpus, flags = a[:5]
    if flags & ~_WHICH_CPUS or count > _PAIRS_MAX:
        raise Errno("EINVAL")
    if flags & _WHICH_CPUS:
        return _which_cpus(k, t, pairs, count, cpusetsize, cpus)
    if cpusetsize or cpus:
        _check_cpus(k, t, cpusetsize, cpus)
    known = values(k)
    for i in range(count):
        (key,) = struct.unpack("<q", usermem.get(k, t, pairs + 16 * i, 8))
        answer = (key, known[key]) if key in known else (-1, 0)
        usermem.put(k, t, pairs + 16 * i, struct.pack("<qQ", *answer))
    return 0


def _check_cpus(k: Kernel, t: Task, size: int, cpus: int) -> None:
    """The set of cpus must contain cpu 0, the only one."""
    if not usermem.get(k, t, cpus, min(size, 8))[:1] > b"\0":
        raise Errno("EINVAL")


def _which_cpus(k: Kernel, t: Task, pairs: int, count: int, size: int, cpus: int) -> int:
    """RISCV_HWPROBE_WHICH_CPUS: keep cpu 0 in the set if it matches all pairs."""
    if not size or not cpus:
        raise Errno("EINVAL")
    known, bitmask_keys, has_all = values(k), (3, IMA_EXT_0, 5, 11, 13, 14, IMA_EXT_1), True
    for i in range(count):
        key, value = struct.unpack("<qQ", usermem.get(k, t, pairs + 16 * i, 16))
        if key not in known:
            usermem.put(k, t, pairs + 16 * i, struct.pack("<qQ", -1, 0))
            has_all = False
        elif key in bitmask_keys:
            has_all &= known[key] & value == value
        else:
            has_all &= known[key] == value
    first = usermem.get(k, t, cpus, 1)[0] or 1
    usermem.put(k, t, cpus, bytes([first & 1 & has_all]).ljust(min(size, 8), b"\0"))
    return 0


def sys_riscv_flush_icache(k: Kernel, t: Task, a: Args) -> int:
    """Nothing to do: the executor fetches what was stored to text at once."""
    if a[2] & ~1:
        raise Errno("EINVAL")
    return 0


CALLS: Final = (
    Call("riscv_hwprobe", sys_riscv_hwprobe, why="one hart"),
    Call(
        "riscv_flush_icache", sys_riscv_flush_icache, "simple", "stores to text are visible at once"
    ),
)
