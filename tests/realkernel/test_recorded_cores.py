"""Core dumps that a real kernel wrote, held against what the model records of the same deaths.

`python tests/realkernel/record_cores.py` records the cores again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import shstk
from shstk.replay.explain.model import Explanation
from shstk.schemas.causes import SOFTWARE_CHECK

ROOT = Path(__file__).parents[2]
CORES = Path(__file__).with_name("cores")
NAMES = sorted(path.stem for path in CORES.glob("faulty-*.xz"))


def explained(core: Path, out: Path, root: Path | None) -> Explanation:
    (found,) = shstk.explain_fault(shstk.import_core(core, out, root=root).path)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_real_core_shows_what_the_models_does(name: str, tmp_path: Path) -> None:
    case, root = name.removeprefix("faulty-"), tmp_path / "root"
    root.mkdir()
    shutil.copy(ROOT / "fixtures/bin/faulty.elf", root / "faulty")
    shstk.record(
        *("/faulty", case),
        out=tmp_path / "model.run",
        root=root,
        overlay=tmp_path / "kept",
        rlimits={"CORE": 2**64 - 1},
    )
    ours = explained(tmp_path / "kept" / "core", tmp_path / "ours.run", root)
    real = explained(CORES / f"{name}.xz", tmp_path / "real.run", root)
    assert real.kind == ours.kind
    assert real.verdict.pattern == ours.verdict.pattern
    same = ("cause", "tval", "word", "pc", "signo", "code")
    if ours.fault.cause != SOFTWARE_CHECK:
        same = tuple(field for field in same if field != "tval")  # an address
    assert [getattr(real.fault, field) for field in same] == [
        getattr(ours.fault, field) for field in same
    ]

    def lines(e: Explanation) -> list[tuple[str, str | None, str]]:
        places = [str(pair.place).replace("[vdso]+0x800", "[vdso]") for pair in e.two_stacks]
        return [(p.kind, p.how, at) for p, at in zip(e.two_stacks, places, strict=True)]

    assert lines(real) == lines(ours)


def test_the_kernels_version_is_in_its_vdso(tmp_path: Path) -> None:
    made = shstk.import_core(CORES / "faulty-smashed.xz", tmp_path / "a.run")
    manifest = shstk.open(made.path).manifest
    assert (manifest.kernel, manifest.provenance.facts) == ("7.2", {"Linux": "7.2.13"})
    assert not [text for text in made.warnings if "kernel" in text]


def test_threads_without_the_program(tmp_path: Path) -> None:
    """Four threads, each on its own shadow stack. Nothing says where functions keep their return
    addresses, so the stacks are searched."""
    found = explained(CORES / "threads.xz", tmp_path / "a.run", None)
    assert found.verdict.pattern == "smashed return address"
    assert [other.agrees for other in found.others] == [True, True, True]
    kinds = [pair.kind for pair in found.two_stacks]
    assert kinds[:2] == ["shadow", "ordinary"]
    assert kinds.count("same") >= 4
    assert shstk.stacks(tmp_path / "a.run")["how"].to_list() == ["dump"] * 4
