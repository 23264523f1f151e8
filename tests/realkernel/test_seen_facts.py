"""Facts of the reference that were observed on real kernels but have no recorded output here."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import Line, from_kernel, from_model, normalised
from test_real_kernels import KERNELS

EXIT_THREAD = "7.2,release_hook=exit_thread"


def facts(lines: list[Line], event: str) -> list[Line]:
    """The lines of one event, without the fields that identify them."""
    return [
        {key: value for key, value in line.items() if key not in ("t", "e")}
        for line in lines
        if line["e"] == event
    ]


@pytest.mark.parametrize("answers", KERNELS)
@pytest.mark.parametrize("tag", ["from_thread", "clone_vm_exec"])
def test_exec_from_a_thread_and_from_a_clone_vm_child(
    answers: str, tag: str, tmp_path: Path
) -> None:
    ours = normalised(from_model(tag, KERNELS[answers], tmp_path / "probe.run"))
    theirs = normalised(from_kernel(answers)[tag])
    assert [line for line in ours if line["t"] == "exec_check"] == theirs


@pytest.mark.parametrize(("kernel", "left"), [("7.2", 1), (EXIT_THREAD, 2)])
def test_exec_releases_the_old_stack_in_the_old_mm(kernel: str, left: int, tmp_path: Path) -> None:
    """X6: from v7 on. With the release in exit_thread, the CLONE_VM child's stack stays mapped."""
    lines = from_model("clone_vm_exec", kernel, tmp_path / "probe.run")
    assert [line["n"] for line in facts(lines, "ssvmas")] == [0, left]


def test_placement(tmp_path: Path) -> None:
    """V2."""
    lines = from_model("placement", "7.2", tmp_path / "probe.run")
    assert facts(lines, "back_to_back") == [{"a_minus_b": "0x3000"}]
    assert facts(lines, "kernel_chosen_pages") == [{"of": 8, "in_a_guard_page": 0}]
    assert facts(lines, "fixed_may_abut") == [{"ok": 1}]
    assert facts(lines, "freed_place") == [{"reused": 1}]
    assert facts(lines, "adjacent_merge") == [{"size": "0x8000", "areas": 3}]
    assert facts(lines, "munmap_inside_splits") == [{"size": "0x3000", "areas": 4}]


@pytest.mark.parametrize(
    ("prot", "push", "load"),
    [
        *(("none", 11, 11), ("r", 11, 0), ("x", 11, 11), ("rx", 11, 0)),
        *(("w", 0, 0), ("rw", 0, 0), ("rwx", 0, 0)),
    ],
)
def test_mprotect(prot: str, push: int, load: int, protected: list[Line]) -> None:
    """V4: any prot is accepted and `ss` stays. An ordinary store never works."""
    expected = {"prot": prot, "rc": 0, "ss": 1, "store_sig": 11}
    assert {**expected, "push_sig": push, "load_sig": load} in facts(protected, "mprotect")


def test_mremap_map_fixed_and_munmap(protected: list[Line]) -> None:
    """V4."""
    (grown,) = facts(protected, "mremap_grows")
    assert grown == {"ok": 1, "size": "0x4000", "ss": 1, "push_sig": 0}
    assert facts(protected, "map_fixed_over") == [{"ok": 1, "ss": 0}]
    assert facts(protected, "munmap_active") == [{"rc": 0, "push_sig": 11, "disable": 0}]


def test_register_set(tmp_path: Path) -> None:
    """T1: the enable bits, lock bits and unknown bits can't be written; ssp can."""
    lines = from_model("regset", "7.2", tmp_path / "probe.run")
    assert [line["cfi_state"] for line in facts(lines, "getregset")] == ["0x28", "0x0"]
    assert {line["rc"] for line in facts(lines, "setregset")} == {-22}
    assert [line["rc"] for line in facts(lines, "setregset_pointer")] == [0, 0]
    assert facts(normalised(lines), "child_resumed") == [{"ssp": "first+0x8"}, {"ssp": "0x0"}]
    assert facts(lines, "child") == [{"exited": 1, "code": 0, "sig": 0}] * 2


def test_sigreturn(tmp_path: Path) -> None:
    """G3, G4, G5."""
    lines = from_model("sigreturn", "7.2", tmp_path / "probe.run")
    outcome = {line["e"]: (line["code"], line["sig"]) for line in lines if "exited" in line}
    assert outcome == {
        "off_kept": (0, 0),
        "off_header_added": (0, 11),
        "off_reserved_word": (0, 11),
        "on_kept": (0, 0),
        "on_header_removed": (0, 0),
        "on_magic": (0, 11),
        "on_size": (0, 11),
        "on_reserved_word": (0, 11),
        "missing_pad_handler_with_pad": (5, 0),
        "missing_pad_handler_without_pad": (0, 11),
        "test_end": (0, 0),
    }
    assert [line["size"] for line in facts(lines, "frame")] == [1088, 1120]
    # without its header ssp stays at the pushed token
    assert [line["ssp_moved"] for line in facts(lines, "after")] == [0, 0, -8]


def test_disabled_on_the_command_line(tmp_path: Path) -> None:
    """A1: riscv_nousercfi disables everything, but hwprobe still reports the extensions."""
    said = {
        scenario: from_model(scenario, "7.2", tmp_path / f"{scenario}.run", nousercfi=True)
        for scenario in ("env", "cfi_prctl", "map")
    }
    (probed,) = facts(said["env"], "hwprobe")
    assert (probed["zicfilp"], probed["zicfiss"]) == (1, 1)
    assert {line["rc"] for line in said["cfi_prctl"] if "rc" in line} == {-22}
    assert {line["rc"] for line in facts(said["map"], "map")} == {-95}


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    return from_model("protect", "7.2", tmp_path_factory.mktemp("protect") / "probe.run")
