"""--enable-cfi: what the loader enables, when, and how that is recorded."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import shstk
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_LP_UNLABELED as LANDING_PADS
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_SS as SHADOW_STACK
from shstk.tracer import elf

GOOD = (Path(__file__).parents[2] / "fixtures/bin/sc1.elf").read_bytes()
PHDR, PT_GNU_PROPERTY = 64, 0x6474E553
NEEDED = (1, 2, 3, 6)  # PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_PHDR


def marked(features: int, data: bytes = GOOD) -> bytes:
    """An ELF file with a property note at its end, whose header replaces one not needed."""
    at = next(
        at
        for at in range(PHDR, PHDR + 56 * 12, 56)
        if struct.unpack_from("<I", data, at)[0] not in NEEDED
    )
    other = struct.pack("<III4x", 0xC0000001, 4, 7)
    note = struct.pack("<III4s", 4, 32, 5, b"GNU\0") + other
    note += struct.pack("<III4x", 0xC0000000, 4, features)
    header = struct.pack("<IIQQQQQQ", PT_GNU_PROPERTY, 4, len(data), 0, 0, len(note), 0, 8)
    return data[:at] + header + data[at + 56 :] + note


@pytest.mark.parametrize("features", [0, LANDING_PADS, SHADOW_STACK, 3])
def test_the_property_note(features: int) -> None:
    assert elf.parse(marked(features), "/x").features == features
    assert elf.parse(GOOD, "/x").features == 0


@pytest.mark.parametrize(
    ("mode", "features", "prctls"),
    [
        ("off", 3, []),
        ("auto", 0, []),
        ("auto", SHADOW_STACK, [75]),
        ("auto", 3, [75, 81]),
        ("on", 0, [75, 81]),
    ],
)
def test_the_loader_s_rows(mode: str, features: int, prctls: list[int], tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_bytes(marked(features))
    out = tmp_path / "r.run"
    shstk.record(program, out=out, enable_cfi=mode, max_instructions=1)
    run = shstk.open(out)
    rows = run.table("syscalls").filter(run.table("syscalls")["outcome"].cast(str) == "loader")
    assert rows["a0"].to_list() == prctls
    assert set(rows["ret"].to_list()) <= {0}
    first = run.table("task_events").filter(
        run.table("task_events")["kind"].cast(str) == "first_user"
    )
    assert bool(first["ssp"][0]) == (75 in prctls)
    assert all(seq < first["seq"][0] < 1 << 20 for seq in rows["seq"])


def compiled(folder: Path, name: str, *options: str) -> bytes:
    out = folder / name
    source = out.with_suffix(".c")
    source.write_text(f"int {out.stem.removeprefix('lib')}(void) {{ return 0; }}\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-nostdlib"]
    subprocess.run([*command, "-fPIC", *options, str(source), "-o", str(out)], check=True)
    return out.read_bytes()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A program that needs libnear.so, which needs libfar.so."""
    folder = tmp_path_factory.mktemp("objects")
    far = compiled(folder, "libfar.so", "-shared", "-Wl,-soname=libfar.so")
    needs = ("-Wl,--no-as-needed", f"-L{folder}")
    near = compiled(folder, "libnear.so", "-shared", "-Wl,-soname=libnear.so", *needs, "-lfar")
    start = (
        "-Wl,-e,prog",
        "-Wl,--dynamic-linker=/lib/ld.so",
    )
    return {"far": far, "near": near, "prog": compiled(folder, "prog", *start, *needs, "-lnear")}


def cache(**paths: str) -> bytes:
    strings, at, entries = b"", 48 + 24 * len(paths), b""
    for name, path in paths.items():
        entries += struct.pack(
            "<iIIIQ", 3, at + len(strings), at + len(strings) + len(name) + 4, 0, 0
        )
        strings += f"{name}.so\0{path}\0".encode()
    header = struct.pack("<20sII20x", b"glibc-ld.so.cache1.1", len(paths), len(strings))
    return header + entries + strings


@pytest.mark.parametrize(
    ("places", "env", "expected"),
    [
        ({"near": "lib", "far": "usr/lib"}, {}, 3),
        ({"near": "opt", "far": "opt"}, {}, 0),  # not in the search path
        ({"near": "opt", "far": "opt"}, {"LD_LIBRARY_PATH": "/opt"}, 3),
        ({"near": "odd", "far": "odd"}, {}, 3),  # found by ld.so.cache
        ({"near": "lib", "far": "lib", "plain": "lib"}, {"LD_PRELOAD": "/lib/libplain.so"}, 0),
        ({"near": "lib", "plainfar": "lib"}, {}, 0),  # a single unmarked library disables it
    ],
)
def test_all_objects_decide(
    places: dict[str, str],
    env: dict[str, str],
    expected: int,
    objects: dict[str, bytes],
    tmp_path: Path,
) -> None:
    for folder in ("lib", "usr/lib", "opt", "odd", "etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "prog").write_bytes(marked(3, objects["prog"]))
    (tmp_path / "lib/ld.so").write_bytes(marked(3))
    for program in ("prog", "lib/ld.so"):
        (tmp_path / program).chmod(0o755)
    (tmp_path / "etc/ld.so.cache").write_bytes(
        cache(libnear="/odd/libnear.so", libfar="/odd/libfar.so")
    )
    for name, folder in places.items():
        library = name.removeprefix("plain") or "far"
        features = 0 if name.startswith("plain") else 3
        plain = f"lib{'plain' if name == 'plain' else library}.so"
        (tmp_path / folder / plain).write_bytes(marked(features, objects[library]))
    out = tmp_path / "r.run"
    shstk.record("/prog", root=tmp_path, out=out, env=env, enable_cfi="auto", max_instructions=1)
    rows = shstk.open(out).table("syscalls").filter(pl.col("outcome").cast(str) == "loader")
    assert rows["a0"].to_list() == ([75, 81] if expected else [])
