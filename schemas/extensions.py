"""The instruction-set extensions of the harts, one row each.

riscv_hwprobe, the ISA string of /proc/cpuinfo, AT_HWCAP and --cpu are derived from these rows. The
instructions of an extension are rows of tracer/core/isa, under the same name.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final, NamedTuple

IMA_EXT_0, IMA_EXT_1 = 4, 16  # keys of riscv_hwprobe (asm/hwprobe.h)


class Extension(NamedTuple):
    """hwprobe: key and bit; None: riscv_hwprobe does not report it. optional: --cpu names it.

    rva23: a guarantee about memory, without instructions; kernels with the switch `ima_ext_1` know
    it.
    """

    name: str
    hwprobe: tuple[int, int] | None = None
    optional: bool = False
    rva23: bool = False


# The extensions that every hart has, in the order of an ISA string, then the optional ones, in the
# order of --cpu.
EXTENSIONS: Final[dict[str, Extension]] = {
    extension.name: extension
    for extension in (
        Extension("i"),
        Extension("m"),
        Extension("a"),
        Extension("f", (IMA_EXT_0, 0)),  # one bit for both: FD
        Extension("d", (IMA_EXT_0, 0)),
        Extension("c", (IMA_EXT_0, 1)),
        Extension("v", (IMA_EXT_0, 2)),
        Extension("zicbom", (IMA_EXT_0, 55)),
        Extension("zicbop", (IMA_EXT_0, 60)),
        Extension("zicboz", (IMA_EXT_0, 6)),
        Extension("zicntr", (IMA_EXT_0, 50)),
        Extension("zicond", (IMA_EXT_0, 35)),
        Extension("zicsr"),
        Extension("zifencei"),
        Extension("zihintntl", (IMA_EXT_0, 29)),
        Extension("zihintpause", (IMA_EXT_0, 36)),
        Extension("zimop", (IMA_EXT_0, 42)),
        Extension("zaamo", (IMA_EXT_0, 56)),
        Extension("zabha", (IMA_EXT_0, 58)),
        Extension("zacas", (IMA_EXT_0, 34)),
        Extension("zalrsc", (IMA_EXT_0, 57)),
        Extension("zawrs", (IMA_EXT_0, 48)),
        Extension("zfa", (IMA_EXT_0, 32)),
        Extension("zfhmin", (IMA_EXT_0, 28)),
        Extension("zca", (IMA_EXT_0, 43)),
        Extension("zcb", (IMA_EXT_0, 44)),
        Extension("zcd", (IMA_EXT_0, 45)),
        Extension("zcmop", (IMA_EXT_0, 47)),
        Extension("zba", (IMA_EXT_0, 3)),
        Extension("zbb", (IMA_EXT_0, 4)),
        Extension("zbs", (IMA_EXT_0, 5)),
        Extension("zvbb", (IMA_EXT_0, 17)),
        Extension("zve32f", (IMA_EXT_0, 38)),
        Extension("zve32x", (IMA_EXT_0, 37)),
        Extension("zve64d", (IMA_EXT_0, 41)),
        Extension("zve64f", (IMA_EXT_0, 40)),
        Extension("zve64x", (IMA_EXT_0, 39)),
        Extension("zvfhmin", (IMA_EXT_0, 31)),
        Extension("zvkb", (IMA_EXT_0, 19)),
        Extension("zvkt", (IMA_EXT_0, 26)),
        Extension("supm", (IMA_EXT_0, 49)),
        Extension("zicclsm", (IMA_EXT_1, 1), rva23=True),
        Extension("ziccamoa", (IMA_EXT_1, 2), rva23=True),
        Extension("ziccif", (IMA_EXT_1, 3), rva23=True),
        Extension("ziccrse", (IMA_EXT_1, 4), rva23=True),
        Extension("za64rs", (IMA_EXT_1, 5), rva23=True),
        Extension("zicfiss", (IMA_EXT_1, 0), optional=True),
        Extension("zicfilp", (IMA_EXT_0, 63), optional=True),
    )
}
OPTIONAL: Final = tuple(e.name for e in EXTENSIONS.values() if e.optional)

# The values of --cpu, the default last.
CPUS: Final = tuple(
    "_".join(("rv64gc", *chosen))
    for count in range(len(OPTIONAL) + 1)
    for chosen in combinations(OPTIONAL, count)
)
DEFAULT_CPU: Final = CPUS[-1]


def optional_of(cpu: str) -> frozenset[str]:
    """The optional extensions of one of CPUS."""
    return frozenset(cpu.split("_")[1:])
