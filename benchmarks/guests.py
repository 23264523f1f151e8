"""The guests without a libc, built with PyPI's ziglang; the first build takes about a minute."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GUESTS = Path(__file__).parent / "guests"
CPU = "generic_rv64+m+a+f+d+c+zicsr+zba+zbb+zbs+zimop+zcmop+zaamo+experimental_zicfiss"


def build(
    name: str, directory: Path, start: str = "start.S", rounds: int = 1, flags: Sequence[str] = ()
) -> Path:
    """The guest, which does its work so many times. flags: more of the compiler's."""
    program = directory / f"{name}.{start.partition('.')[0]}.{rounds}"
    if program.exists():
        return program
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
    command += [f"-mcpu={CPU}", "-fcf-protection=return", "-O2", "-nostdlib", "-static"]
    command += [f"-DROUNDS={rounds}", *flags, "-fno-sanitize=undefined", "-fno-stack-protector"]
    [source] = GUESTS.glob(f"{name}.[cS]")
    command += [str(source), str(GUESTS / start), "-o", str(program)]
    subprocess.run(command, check=True)
    return program
