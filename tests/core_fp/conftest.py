"""The arithmetic compiled for these tests, with and without the host's arithmetic."""

import os
import subprocess
from pathlib import Path

import pytest
from fp_build import FP, HERE, INCLUDES, SOURCE, Library, compiled


@pytest.fixture(scope="session")
def softfloat(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The object files of SoftFloat."""
    folder = tmp_path_factory.mktemp("softfloat")
    sources = sorted([*SOURCE.glob("*.c"), *SOURCE.glob("RISCV/*.c")])
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-O2", "-fPIC", "-w", *INCLUDES, "-c", *sources], cwd=folder, check=True
    )
    return sorted(folder.glob("*.o"))


@pytest.fixture(scope="session")
def soft(softfloat: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Library:
    target = tmp_path_factory.mktemp("fp") / "soft.so"
    sources = [HERE / "driver.cpp", FP / "fp.cpp"]
    return Library(compiled(target, "-DFP_WITHOUT_HOST", *sources, *softfloat))


@pytest.fixture(scope="session")
def fast(softfloat: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Library:
    target = tmp_path_factory.mktemp("fp") / "fast.so"
    return Library(compiled(target, HERE / "driver.cpp", FP / "fp.cpp", *softfloat))
