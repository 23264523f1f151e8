"""The kernel's own selftest of CFI, tools/testing/selftests/riscv/cfi, built from Debian's sources.

``python tests/suites/cfi_selftest.py [REVISION]`` prints what it says.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # an installed shstk comes first

from cfi_programs import Outcome, compiled, need_compiler, outcome
from debian import files_of_tarball, package

# riscv/cfi is in Linux since 7.0: no release of Debian has it yet, these suites do.
SUITES = ("sid", "trixie-backports")
SOURCE = "linux-source-7.2"
SELFTESTS = "tools/testing/selftests/"
WANTED = (f"{SELFTESTS}riscv/cfi/", f"{SELFTESTS}kselftest.h")
FLAGS = (
    # its functions are to stay as they are written, which its pragmas tell gcc only
    *("-O1", "-Xclang", "-disable-llvm-passes"),
    "-DSEGV_CPERR=10",  # musl has no name for it
)


def built(target: Path) -> Path:
    """Build the selftest into `target`. Raises NotToBeHad."""
    need_compiler()
    deb = package(SOURCE, *SUITES)
    tree = files_of_tarball(deb, f"./usr/src/{SOURCE}.tar.xz", WANTED)
    sources = [tree / SELFTESTS / "riscv/cfi" / name for name in ("cfitests.c", "shadowstack.c")]
    complaint = compiled(sources, FLAGS, target)
    assert complaint is None, complaint
    return target


def selftest(kernel: str) -> Outcome:
    with tempfile.TemporaryDirectory() as work:
        return outcome(built(Path(work) / "cfitests"), kernel)


if __name__ == "__main__":
    result = selftest(sys.argv[1] if len(sys.argv) > 1 else "7.2")
    print(result.output, result.ending, sep="")
