"""The executor alone, no kernel: millions of instructions per CPU second, by tracing level."""

import time
from pathlib import Path

from elftools.elf.elffile import ELFFile

from benchmarks.guests import GUESTS, build
from benchmarks.harness import Bench, Results
from shstk.tracer import _core

SLICE = 262_144
NATIVE_AFTER = 32
STACK_TOP = 0x7000_0000
SHADOW_TOP = 0x6000_0000
LEVELS = {
    "off": 0,
    "cfi": _core.TRACE_CFI,
    "cfi,flow": _core.TRACE_CFI | _core.TRACE_FLOW,
    "all": _core.TRACE_CFI | _core.TRACE_FLOW | _core.TRACE_INSN,
}


def load(
    program: Path, trace: int, native_after: int | None = None
) -> tuple[_core.Machine, _core.AddressSpace, _core.Hart]:
    machine = _core.Machine(trace=trace, native_after=native_after)
    space = _core.AddressSpace(machine)
    everything = _core.PERM_R | _core.PERM_W | _core.PERM_X
    with program.open("rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"]
            first = start & ~0xFFF
            end = (start + segment["p_memsz"] + 0xFFF) & ~0xFFF
            perm = everything & (0x5 if segment["p_flags"] & 1 else 0x3)
            if space.perm(first) >= 0:
                first += 0x1000
            space.map(first, end - first, perm)
            space.write(start, segment.data(), force=True)
        entry = elf["e_entry"]
    space.map(STACK_TOP - 0x100000, 0x100000, _core.PERM_R | _core.PERM_W)
    space.map(SHADOW_TOP - 0x10000, 0x10000, _core.PERM_R | _core.PERM_W | _core.PERM_SS)
    hart = _core.Hart(machine)
    hart.pc = entry
    hart.set_x(2, STACK_TOP - 64)
    hart.ssp = SHADOW_TOP
    hart.sse = True
    return machine, space, hart


def _mips(program: Path, trace: int, native_after: int | None) -> float:
    machine, space, hart = load(program, trace, native_after)
    begin = time.process_time()
    while (stop := hart.run(space, SLICE, 1, 1)) in (_core.STOP_BUDGET, _core.STOP_FLUSH):
        if stop == _core.STOP_FLUSH:
            for table in _core.TABLES:
                machine.drain(table)
    seconds = time.process_time() - begin
    if stop != _core.STOP_ECALL:
        raise SystemExit(f"{program.name}: stop {stop} at {hart.pc:#x}: {hart.fault()}")
    return machine.icount / seconds / 1e6


def measure(bench: Bench) -> Results:
    results = Results()
    for path in sorted(GUESTS.glob("*.c")):
        program = build(path.stem, bench.work)
        for tier, after in (("interpreter", None), ("native", NATIVE_AFTER)):
            for level, trace in LEVELS.items():
                bench.say(f"{path.stem} {tier} {level}")
                best = max(_mips(program, trace, after) for _ in range(bench.repeat))
                results.add(f"{path.stem}, {tier}", level, best, "MIPS")
    return results
