"""matrix: a program's death is a row; Ctrl-C keeps what is known; its options are record's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.cli import cli

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
DIES = FIXTURES / "taking-turns.elf"  # under v3
MATRIX = ["matrix", "--stdin", "/dev/null"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_death_is_a_row(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*MATRIX, "--kernels", "v3,7.2", str(DIES)]) == 1
    header, died, *rest = capfd.readouterr().out.splitlines()
    assert header.split() == ["rule", "slug", "v3", "7.2", "changes"]
    assert died.split(maxsplit=4) == ["-", "died", "SIGSEGV", "exited", "in v3, gone 7.2"]
    place = "SIGSEGV (SEGV_CPERR) at 5902.1 in taking-turns.elf+0x10035bc, task 102"
    assert rest[-1] == f"died under v3: {place}"


def test_a_death_in_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*MATRIX, "--format", "json", "--kernels", "v3,7.2", str(DIES)]) == 1
    died = json.loads(capfd.readouterr().out)[0]
    assert (died["slug"], died["changes"][0]) == ("died", {"kernel": "v3", "step": "in"})
    assert died["kernels"]["7.2"] is None
    v3 = died["kernels"]["v3"]
    assert (v3["how"], v3["code"], v3["seq"], v3["tid"]) == ("SIGSEGV", "SEGV_CPERR", "5902.1", 102)


def test_a_limit_is_no_exit(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--max-instructions", "100", "--kernels", "7.2", str(DIES)]
    run([*MATRIX, *words])
    assert capfd.readouterr().out.splitlines()[1].split()[:3] == ["-", "died", "limit"]


@pytest.mark.parametrize("command", ["matrix", "explore"])
def test_it_takes_what_record_takes(command: str) -> None:
    """But for where one run goes, and the options of one kernel or of one real machine."""

    def options(name: str) -> set[str]:
        found = cli.get_command(None, name)  # type: ignore[arg-type]
        assert found is not None
        return {option for p in found.params for option in p.opts if option.startswith("--")}

    one_run = {"--output", "--force", "--exit-guest"}
    real = {"--real-kernel", "--keep-events", "--events-limit", "--vmlinux", "--qemu"}
    real |= {"--system-map", "--firmware", "--smp", "--append", "--user"}
    assert options("record") - options(command) <= one_run | real


def test_trace_and_plugins_reach_the_runs() -> None:
    words = ["--keep", "runs", "--trace", "cfi", "--plugin", "insn_mix", "--kernels", "7.2"]
    assert run([*MATRIX, *words, str(DIES)]) == 0
    assert Path("runs/7.2.run/plugins/insn_mix.parquet").exists()
    assert not Path("runs/7.2.run/flow.parquet").exists()


def test_what_is_complete_is_kept_when_it_is_interrupted() -> None:
    begun: list[str] = []
    reports = shstk.matrix(
        DIES,
        kernels=["v3", "7.2", "7.3"],
        on_kernel=begun.append,
        interrupted=lambda: len(begun) == 2,
    )
    assert (list(reports), begun) == (["v3"], ["v3", "7.2"])
