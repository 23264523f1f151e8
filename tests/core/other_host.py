"""The executor on an aarch64 host: python tests/core/other_host.py [--build DIRECTORY]

It is compiled for this host and, by Debian's g++-aarch64-linux-gnu, for aarch64, where qemu-aarch64
executes it. Random programs of every extension, floating point and vectors among them, must end
alike on both: registers, memory, faults and rows. Needs no Python of the other host.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
CROSS = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc",
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    "-DCMAKE_EXE_LINKER_FLAGS=-static",
)
AT_ONCE = 100  # files of one process


def run(*words: str | Path) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def built(directory: Path, *options: str) -> Path:
    python = f"-DPython_EXECUTABLE={sys.executable}"
    headers = (
        f"-DPython_INCLUDE_DIR={sysconfig.get_path('include')}"  # CMake asks, nothing uses them
    )
    run("cmake", "-S", ROOT, "-B", directory, python, headers, *options)
    run("cmake", "--build", directory, "-t", "core_ends", "-j", str(os.cpu_count()))
    return directory / "core_ends"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build/other_host")
    base = parser.parse_args().build
    run(sys.executable, "-P", ROOT / "tests/hostile/core_seeds.py", base / "seeds")
    files = sorted((base / "seeds").iterdir())
    here, there = built(base / "here"), built(base / "aarch64", *CROSS)
    differ = 0
    for at in range(0, len(files), AT_ONCE):
        some = files[at : at + AT_ONCE]
        ours, theirs = run(here, *some), run("qemu-aarch64", there, *some)
        for mine, other in zip(ours.splitlines(), theirs.splitlines(), strict=True):
            if mine != other:
                differ += 1
                print(f"here    {mine}\naarch64 {other}", flush=True)
    print(f"{len(files)} programs, {differ} differ")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
