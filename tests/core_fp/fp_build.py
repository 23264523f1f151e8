"""Compiles the arithmetic, and calls it."""

import ctypes
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
FP = HERE.parents[1] / "tracer" / "core" / "fp"
SOURCE = FP / "softfloat" / "source"
INCLUDES = [f"-I{d}" for d in (FP, FP / "softfloat", SOURCE / "include", SOURCE / "RISCV")]


class Library:
    """A build of driver.cpp, or of another file with an fp_run."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.fp_run.restype = ctypes.c_bool

    def run(
        self, name: str, operands: Sequence[Sequence[int]], rm: int, initial: int = 0
    ) -> list[tuple[int, int]]:
        """Result and flags of the operation for each tuple of operands."""
        columns = [
            (ctypes.c_uint64 * len(operands))(*(row[k] if k < len(row) else 0 for row in operands))
            for k in range(3)
        ]
        results, flags = self.run_columns(name, columns, rm, initial)
        return list(zip(results, flags, strict=True))

    def run_columns(
        self, name: str, columns: Sequence["ctypes.Array[ctypes.c_uint64]"], rm: int, initial: int
    ) -> tuple["ctypes.Array[ctypes.c_uint64]", "ctypes.Array[ctypes.c_uint32]"]:
        count = len(columns[0])
        results, flags = (ctypes.c_uint64 * count)(), (ctypes.c_uint32 * count)()
        known = self._library.fp_run(
            name.encode(), ctypes.c_uint64(count), *columns, rm, initial, results, flags
        )
        assert known, f"the driver has no operation {name}"
        return results, flags

    def hard_operands(self, seed: int, count: int, width: int) -> "ctypes.Array[ctypes.c_uint64]":
        operands = (ctypes.c_uint64 * count)()
        self._library.fp_operands(ctypes.c_uint64(seed), ctypes.c_uint64(count), width, operands)
        return operands


def compiled(target: Path, *arguments: str | Path) -> Path:
    compiler = os.environ.get("CXX", "c++")
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fPIC"]
    subprocess.run([compiler, *flags, *INCLUDES, *arguments, "-shared", "-o", target], check=True)
    return target
