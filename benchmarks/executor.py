"""Instructions per second of the executor: python benchmarks/executor.py [--repeat N] [NAME...]

--native: of native code, not of the interpreter.

The guests are built with PyPI's ziglang, which takes about a minute the first time. Figures are
millions of guest instructions per second of CPU time, the best of N runs, per tracing level.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from shstk.tracer import _core

GUESTS = Path(__file__).parent / "guests"
CPU = "generic_rv64+m+a+f+d+c+zicsr+zba+zbb+zbs+zimop+zcmop+zaamo+experimental_zicfiss"
SLICE = 262_144
NATIVE_AFTER = 32
STACK_TOP = 0x7000_0000
SHADOW_TOP = 0x6000_0000
LEVELS = {
    "off": 0,
    "cfi": _core.TRACE_CFI,
    "cfi+flow": _core.TRACE_CFI | _core.TRACE_FLOW,
    "all": _core.TRACE_CFI | _core.TRACE_FLOW | _core.TRACE_INSN,
}


def build(
    name: str, directory: Path, start: str = "start.S", rounds: int = 1, flags: Sequence[str] = ()
) -> Path:
    """The guest, which does its work so many times. flags: more of the compiler's."""
    program = directory / f"{name}.{start.partition('.')[0]}"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
    command += [f"-mcpu={CPU}", "-fcf-protection=return", "-O2", "-nostdlib", "-static"]
    command += [f"-DROUNDS={rounds}", *flags, "-fno-sanitize=undefined", "-fno-stack-protector"]
    [source] = GUESTS.glob(f"{name}.[cS]")
    command += [str(source), str(GUESTS / start), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


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


def measure(program: Path, trace: int, native_after: int | None) -> tuple[float, int]:
    """MIPS, and the guest's result."""
    machine, space, hart = load(program, trace, native_after)
    begin = time.process_time()
    while (stop := hart.run(space, SLICE, 1, 1)) in (_core.STOP_BUDGET, _core.STOP_FLUSH):
        if stop == _core.STOP_FLUSH:
            for table in _core.TABLES:
                machine.drain(table)
    seconds = time.process_time() - begin
    if stop != _core.STOP_ECALL:
        raise SystemExit(f"{program.name}: stop {stop} at {hart.pc:#x}: {hart.fault()}")
    return machine.icount / seconds / 1e6, hart.x(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = sorted(path.stem for path in GUESTS.glob("*.c"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--native", action="store_true")
    parser.add_argument("names", nargs="*", default=names)
    options = parser.parse_args()
    after = NATIVE_AFTER if options.native else None
    print(f"{'MIPS':10}" + "".join(f"{level:>10}" for level in LEVELS) + "  result")
    with tempfile.TemporaryDirectory() as directory:
        for name in options.names:
            program = build(name, Path(directory))
            row = f"{name:10}"
            for trace in LEVELS.values():
                runs = [measure(program, trace, after) for _ in range(options.repeat)]
                row += f"{max(mips for mips, _ in runs):10.0f}"
            print(row + f"  {runs[0][1]:#x}", flush=True)


if __name__ == "__main__":
    main()
