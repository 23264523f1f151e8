"""What is read out of a kernel before it is recorded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kernelimage import BANNER, FUNCTIONS, LINK, Types, image, task_struct

from shstk.schemas.errors import Exit, ShstkError
from shstk.tracer.realkernel.btf import Btf, NoTypes
from shstk.tracer.realkernel.image import BadImage
from shstk.tracer.realkernel.kallsyms import NoSymbols, symbols
from shstk.tracer.realkernel.options import KernelFiles
from shstk.tracer.realkernel.prepare import Prepared, prepare

ROOT = Path(__file__).parents[2]


def prepared(data: bytes, where: Path, **files: Path) -> Prepared:
    path = where / "Image"
    path.write_bytes(data)
    return prepare(KernelFiles(image=path, **files))


@pytest.mark.parametrize("layout", ["places", "base", "before"])
def test_symbols_in_each_layout(layout: str) -> None:
    found = symbols(image(layout))
    assert {name: found[name] for name in FUNCTIONS} == {
        name: LINK + at for name, at in FUNCTIONS.items()
    }


def test_members_of_structs() -> None:
    types = Btf(image(types=task_struct()))
    assert types.offset("task_struct.__state") == 32
    assert types.offset("task_struct.mm") == 40  # of an unnamed union
    assert types.offset("task_struct.thread_info.user_cfi_state.shdw_stk_base") == 24
    assert types.size("task_struct") == 64
    assert types.offset("task_struct.none") is None
    assert types.offset("none.mm") is None


def test_the_table(tmp_path: Path) -> None:
    made = prepared(image(types=task_struct()), tmp_path)
    lines = made.table.splitlines()
    assert made.banner == BANNER.decode()
    assert f"trap {LINK + 0x400:x}" in lines
    assert {"mm 40", "state 32"} <= {*lines}
    assert [line for line in lines if line.startswith("access")] == [
        f"access {LINK + 0x404:x}",
        f"access {LINK + 0x484:x}",
    ]
    assert any(line.startswith(f"watch 0 do_exit {LINK + 0x500:x}") for line in lines)


def test_what_a_kernel_lacks_is_named(tmp_path: Path) -> None:
    made = prepared(image(types=task_struct(), touching=()), tmp_path)
    assert made.blind["kernel_memory"] == "the kernel's exception table was not found"
    assert "the kernel has no function do_mmap" in made.blind.values()


def recursive() -> Types:
    """A typedef of itself, and an unnamed struct in itself."""
    types = Types()
    types.add(8, "task_struct_t", 1)
    types.add(4, "task_struct", 8, [("__state", 1, 0), ("", 2, 0)])
    return types


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an Image of a riscv64 kernel"),
        (b"MZ\0\0zimg", "not an Image of a riscv64 kernel"),
        (b"\x1f\x8b\x08" + bytes(20), "is damaged"),
        (image()[:0x1000], "has no symbols: there is no token table"),
        (image(), "does not say how its structs look: there are no types"),
        (image(functions={"_start": 0}, types=task_struct()), "has no symbol handle_exception"),
        (image(types=Types()), "has no task_struct.mm"),
        (image(types=recursive()), "its types are damaged"),
        (image("none", types=task_struct()), "addresses are in a form that is not known"),
        (image("places", {"none": 0}, task_struct()), "no symbol says where the Image begins"),
    ],
)
def test_what_cannot_be_recorded_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ShstkError, match=message) as raised:
        prepared(data, tmp_path)
    assert raised.value.exit is Exit.INPUT


@pytest.mark.parametrize("seed", range(24))
def test_damaged_images_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    source, whole = random.Random(seed), image(types=task_struct())
    data = bytearray(whole[: source.randrange(len(whole))] if seed % 3 == 0 else whole)
    for _ in range(source.choice((1, 30, 1000))):
        data[source.randrange(len(data))] = source.choice((0, 1, 0xFF, source.randrange(256)))
    data[0x30:0x38] = b"RISCV\0\0\0"
    for layout in (symbols, Btf):
        try:
            layout(bytes(data))
        except (NoSymbols, NoTypes) as why:
            assert str(why)  # noqa: PT017
    try:
        prepared(bytes(data), tmp_path)
    except ShstkError as error:
        assert error.exit is Exit.INPUT  # noqa: PT017


@pytest.mark.parametrize("seed", range(24))
def test_damaged_vmlinux_files_are_refused_or_read(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    data = bytearray((ROOT / "shstk/guests/pthread.elf").read_bytes())
    del data[source.randrange(64, len(data)) if seed % 3 == 0 else len(data) :]
    for _ in range(20):
        data[source.randrange(min(len(data), 4096) if seed % 2 else len(data))] = 0xFF
    (tmp_path / "vmlinux").write_bytes(data)
    with pytest.raises(BadImage):
        prepared(image(), tmp_path, vmlinux=tmp_path / "vmlinux")


@pytest.mark.parametrize("text", ["", "ffffffff80000000 T\n", "where T _start\n", "\xff\xfe"])
def test_what_is_no_system_map(text: str, tmp_path: Path) -> None:
    (tmp_path / "System.map").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadImage, match=r"System.map|no symbol handle_exception"):
        prepared(image(types=task_struct()), tmp_path, system_map=tmp_path / "System.map")
