"""Many hard operands: the two builds are compared with each other and with this machine."""

import ctypes
import platform

import pytest
from fp_build import HERE, Library, compiled
from fp_oracle import MODES, NX, OPERATIONS, RMM, RNE

COUNT = 30_000
X86_64 = platform.machine() in ("x86_64", "AMD64")
FE_TONEAREST, FE_UPWARD = 0, 0x800  # of x86-64
HOST_OPERATIONS = [
    f"{name}_{s}" for name in ("add", "sub", "mul", "div", "sqrt", "fma") for s in ("s", "d")
] + ["f32_to_f64", "f64_to_f32", "i32_to_s", "i64_to_s", "i64_to_d"]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if not X86_64:
        pytest.skip("this machine's floating point detects tininess differently from RISC-V")
    target = tmp_path_factory.mktemp("fp") / "machine.so"
    return Library(compiled(target, "-frounding-math", HERE / "host_reference.cpp"))


def agree(one: Library, other: Library, name: str, rm: int, initial: int) -> None:
    widths = (*OPERATIONS[name].operands, 0, 0)[:3]
    columns = [one.hard_operands(rm * 8 + k, COUNT, width) for k, width in enumerate(widths)]
    found = one.run_columns(name, columns, rm, initial)
    expected = other.run_columns(name, columns, rm, initial)
    if all(bytes(a) == bytes(b) for a, b in zip(found, expected, strict=True)):
        return
    for row in zip(*columns, *found, *expected, strict=True):
        a, b, c, result, flags, wanted, wanted_flags = row
        assert (result, flags) == (wanted, wanted_flags), (
            f"{name}({a:#x}, {b:#x}, {c:#x}, rm={rm}, fl={initial})"
        )


@pytest.mark.parametrize("initial", [0, NX])
@pytest.mark.parametrize("name", OPERATIONS)
def test_builds_agree(fast: Library, soft: Library, name: str, initial: int) -> None:
    for rm in MODES:
        agree(fast, soft, name, rm, initial)


@pytest.mark.parametrize("name", HOST_OPERATIONS)
def test_machine_agrees(soft: Library, machine: Library, name: str) -> None:
    for rm in MODES:
        if rm != RMM:
            agree(soft, machine, name, rm, 0)


@pytest.mark.skipif(not X86_64, reason="only x86-64's arithmetic is used")
def test_host_left_in_another_mode(fast: Library, soft: Library) -> None:
    libm = ctypes.CDLL("libm.so.6")
    one, tiny = 1.0, 1e-300
    libm.fesetround(FE_UPWARD)
    try:
        agree(fast, soft, "add_d", RNE, 0)
        agree(fast, soft, "mul_s", RNE, NX)
        assert one + tiny > one, "the mode is not as it was left"
    finally:
        libm.fesetround(FE_TONEAREST)
