"""record(): a program becomes a sealed run, the same one every time."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shstk.schemas.errors import BadProgram, CannotWrite, UsageError
from shstk.tracer.record import RecordOptions, RecordResult, record

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"


def recorded(out: Path, program: str = "sc1", **options: object) -> RecordResult:
    return record(RecordOptions(str(FIXTURES / f"{program}.elf"), out=out, **options))  # type: ignore[arg-type]


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_run_is_sealed(tmp_path: Path) -> None:
    output: list[tuple[int, bytes]] = []
    result = recorded(
        tmp_path / "x.run", kernel="v6", on_output=lambda fd, data: output.append((fd, data))
    )
    assert (result.ending, result.exit_status, result.warnings) == ("exited", 0, ())
    assert result.describe() == "exited with 0"
    assert b"own stack" in b"".join(data for fd, data in output if fd == 1)
    manifest = json.loads((tmp_path / "x.run/manifest.json").read_text())
    assert manifest["program"] == "/sc1.elf"
    assert manifest["argv"] == ["/sc1.elf"]
    assert manifest["kernel"] == "v6"
    assert manifest["first_tid"] == 100
    assert not (tmp_path / "x.run.partial").exists()


def test_twice_the_same_bytes(tmp_path: Path) -> None:
    recorded(tmp_path / "a.run", "pthread-off", seed=3)
    recorded(tmp_path / "b.run", "pthread-off", seed=3)
    recorded(tmp_path / "c.run", "pthread-off", seed=4)
    assert files(tmp_path / "a.run") == files(tmp_path / "b.run")
    assert files(tmp_path / "a.run") != files(tmp_path / "c.run")


def test_what_is_traced_changes_no_other_table(tmp_path: Path) -> None:
    recorded(tmp_path / "a.run", "pthread-off")
    recorded(tmp_path / "b.run", "pthread-off", trace=frozenset({"cfi", "flow", "insn"}))
    plain, full = files(tmp_path / "a.run"), files(tmp_path / "b.run")
    assert (tmp_path / "b.run/insn.parquet").exists()
    tables = [name for name in plain if name.endswith(".parquet")]
    assert tables
    assert all(plain[name] == full[name] for name in tables)


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ({"max_instructions": 5000}, "limit"),
        ({"timeout": 0.0}, "timeout"),
        ({"interrupted": lambda: True}, "interrupted"),
    ],
)
def test_a_run_that_is_cut_short_is_sealed(
    tmp_path: Path, options: dict[str, object], ending: str
) -> None:
    result = recorded(tmp_path / "x.run", "pthread-off", **options)
    assert (result.ending, result.exit_status) == (ending, None)
    assert json.loads((tmp_path / "x.run/manifest.json").read_text())["ending"] == ending
    events = pl.read_parquet(tmp_path / "x.run/task_events.parquet")
    assert "exit_begin" not in events["kind"].cast(pl.String).to_list()


def test_a_bad_program_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.elf"
    bad.write_bytes((FIXTURES / "sc1.elf").read_bytes()[:200])
    with pytest.raises(BadProgram, match=r"bad\.elf"):
        record(RecordOptions(str(bad), out=tmp_path / "x.run"))
    with pytest.raises(BadProgram):
        record(RecordOptions(str(tmp_path / "none"), out=tmp_path / "x.run"))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.elf"]


def test_a_program_for_another_machine_is_named_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = bytearray((FIXTURES / "sc1.elf").read_bytes())
    elf[18] = 62  # EM_X86_64
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ls").write_bytes(elf)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadProgram, match=r"^bin/ls: a 64-bit ELF for EM_X86_64, not RV64"):
        record(RecordOptions("bin/ls", out=tmp_path / "x.run"))


@pytest.mark.parametrize(("root", "hint"), [(False, "--root DIR"), (True, "the tree of --root")])
def test_a_script_without_its_interpreter(tmp_path: Path, root: bool, hint: str) -> None:
    script = tmp_path / "bin/script"
    script.parent.mkdir()
    script.write_text("#!/no/such/sh\n")
    script.chmod(0o755)
    options = {"root": tmp_path} if root else {}
    program = "/bin/script" if root else str(script)
    with pytest.raises(BadProgram) as caught:
        record(RecordOptions(program, out=tmp_path / "x.run", **options))
    assert caught.value.what == f"{program}: its interpreter /no/such/sh is not there"
    assert hint in caught.value.hint


def test_interrupted_is_asked_again_and_again(tmp_path: Path) -> None:
    """A guest that makes call after call has no time slice that ends by itself."""
    turns = iter(range(1_000_000))
    result = recorded(tmp_path / "x.run", interrupted=lambda: next(turns) >= 1)
    assert result.ending == "interrupted"
    assert len(pl.read_parquet(tmp_path / "x.run/syscalls.parquet")) <= 256


@pytest.mark.parametrize("program", ["/dev/zero", "/"])
def test_a_program_is_a_regular_file(tmp_path: Path, program: str) -> None:
    with pytest.raises(BadProgram, match="not a regular file"):
        record(RecordOptions(program=program, out=tmp_path / "x.run"))
    assert not list(tmp_path.iterdir())


def test_too_little_memory_for_the_program(tmp_path: Path) -> None:
    with pytest.raises(BadProgram, match="does not fit"):
        recorded(tmp_path / "x.run", memory=4096)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    recorded(tmp_path / "x.run")
    with pytest.raises(CannotWrite):
        recorded(tmp_path / "x.run")
    recorded(tmp_path / "x.run", force=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"cpu": "rv32"}, "no such ISA"),
        ({"kernel": "v99"}, "unknown kernel"),
        ({"abi": "own", "kernel": "7.4"}, "prctl numbers"),
        ({"rlimits": {"STAK": 1}}, "no such limit"),
        ({"rlimits": {"STACK": 2**64}}, "--rlimit STACK: .* 64-bit"),
        ({"memory": -5}, "--memory: -5 is not"),
        ({"seed": 2**64}, "--seed: .* 64-bit"),
        ({"timeout": float("nan")}, "--timeout: nan"),
        ({"timeout": float("inf")}, "--timeout: inf"),
        ({"env": {"A": "\udcff"}}, "not UTF-8"),
        ({"argv": ("a\0b",)}, "NUL"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        recorded(tmp_path / "x.run", **options)
    assert not list(tmp_path.iterdir())


def test_own_numbers(tmp_path: Path) -> None:
    """v3 had PR_SET_SHADOW_STACK_STATUS at 72; it does not know the merged kernel's 75."""
    recorded(tmp_path / "x.run", kernel="v3", abi="own")
    calls = pl.read_parquet(tmp_path / "x.run/syscalls.parquet").filter(pl.col("name") == "prctl")
    assert set(calls["ret"]) == {-22}


@pytest.mark.parametrize("options", [{"nousercfi": True}, {"cpu": "rv64gc_zicfilp"}])
def test_without_support(tmp_path: Path, options: dict[str, object]) -> None:
    recorded(tmp_path / "x.run", **options)
    rows = pl.read_parquet(tmp_path / "x.run/mappings.parquet")
    assert not rows["shadow_stack"].any()
