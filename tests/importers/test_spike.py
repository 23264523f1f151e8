"""Commit logs of Spike: imported, judged, doctored and damaged.

logs/longjmp.zst is what spike_log.py prints for fixtures/bin/longjmp.elf, with -l. Its last pop
traps.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import spike_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shstk
from shstk.__main__ import run as command
from shstk.replay.check import Report, check
from shstk.replay.run import Run
from shstk.schemas.errors import BadProgram, BadRecording, Exit
from shstk.tracer.packed import unpacked

ROOT = Path(__file__).parents[2]
LOG = Path(__file__).parent / "logs/longjmp.zst"
LONGJMP = ROOT / "fixtures/bin/longjmp.elf"
JUDGED = ("Z1", "Z2", "Z3", "Z4", "Z6")  # all that a log has enough for
SAME = ("pc", "kind", "addr", "value", "operand", "ssp_before", "ssp_after", "fault")


def lines_of(path: Path) -> list[str]:
    return unpacked(path, path.read_bytes()).decode().splitlines()


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Run]:
    def make(log: list[str] | str | Path, **options: object) -> Run:
        path = tmp_path / "log"
        if isinstance(log, Path):
            path = log
        else:
            path.write_text(log if isinstance(log, str) else "".join(f"{t}\n" for t in log))
        made = shstk.import_spike(path, tmp_path / "a.run", force=True, **options)  # type: ignore[arg-type]
        return Run.open(made.path)

    return make


@pytest.fixture(scope="module", params=["green-threads", "longjmp"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    program = ROOT / f"fixtures/bin/{request.param}.elf"
    return spike_log.record(program, tmp_path_factory.mktemp("model") / "model.run")


def cfi(run: Run) -> pl.DataFrame:
    """Those of user mode."""
    rows = run.table("cfi").filter(pl.col("pc") < 2**63).select(SAME)
    return rows.with_columns(pl.col("kind").cast(pl.String))


def satisfied(report: Report) -> dict[str, int]:
    return {result.rule.id: result.checked for result in report.of("satisfied")}


def first(report: Report, rule: str) -> tuple[str, str]:
    (found,) = report.violated.filter(pl.col("rule") == rule).head(1).iter_rows(named=True)
    return found["expected"], found["actual"]


def test_the_rows_are_those_of_the_executor(model: Run, imported: Callable[..., Run]) -> None:
    """But for what a log does not tell: the old word of an ssamoswap without rd."""
    run = imported(list(spike_log.lines(model, verbose=True)))
    due, rows = cfi(model), cfi(run)
    for name in SAME:
        known = pl.col(name).is_not_null()
        if name in ("value", "operand"):
            lost = rows.with_columns(due=due[name]).filter(~known & pl.col("due").is_not_null())
            assert set(lost["kind"]) <= {"ssamoswap"}
            assert (rows[name] == due[name]).all()
        else:
            assert rows[name].equals(due[name], null_equal=True), name
    insn = run.table("insn").filter(pl.col("pc") < 2**63).tail(model.table("insn").height)
    for name in ("pc", "word", "rd", "rd_value", "mem_addr"):
        assert insn[name].equals(model.table("insn")[name], null_equal=True), name
    report = check(run)
    assert report.clean
    assert set(satisfied(report)) <= {*JUDGED, "R1"}


def test_the_log_of_the_fixture(imported: Callable[..., Run]) -> None:
    run = imported(LOG, executable=LONGJMP)
    assert run.manifest.provenance.recorder == "spike"
    assert run.manifest.program == "/longjmp.elf"
    assert satisfied(check(run)) == {"Z1": 6, "Z2": 1, "Z4": 3}
    assert run.table("faults").select("cause", "tval").row(0) == (18, 3)
    why = {result.rule.id: result.not_evaluated for result in check(run).results}
    assert why["Z3"] == "no read of ssp (the run was cut short: interrupted)"
    assert why["Z5"] == "not observable by spike: mappings, kernel_memory"
    assert why["F1"].startswith("not observable by spike: faults.signo")
    assert why["P6"].startswith("not observable by spike: task_events[lifetimes]")


def test_a_pop_that_should_have_trapped(imported: Callable[..., Run]) -> None:
    lines = lines_of(LOG)
    assert "exception trap_software_check" in lines[-2]
    pc, word = int(lines[-3].split()[2], 16), 0xCDC0_C073
    ssp = 0x7FFF_F7FF_EFD0
    pop = (spike_log.csr(spike_log.SSP, ssp + 8), f"mem 0x{ssp:016x}")
    lines[-2:] = [spike_log.commit(0, pc, word, *pop)]
    report = check(imported(lines))
    assert first(report, "Z2") == (
        "fault 18: 0x1001b90 is not 0x1001b26",
        "fault none",
    )
    assert set(report.violated["rule"]) == {"Z2"}


def test_a_pop_that_should_not_have_trapped(imported: Callable[..., Run]) -> None:
    """ra has what was pushed."""
    lines = lines_of(LOG)
    load = next(i for i in reversed(range(len(lines))) if " x1  0x" in lines[i])
    lines[load] = lines[load].replace("0x0000000001001b26", "0x0000000001001b90")
    assert first(check(imported(lines)), "Z2")[0] == "no software check: both are 0x1001b90"


def test_an_alias_may_have_changed_a_word(imported: Callable[..., Run]) -> None:
    """Machine mode stores at the same offset of another page: nothing is known of the word."""
    lines = lines_of(LOG)
    load = next(i for i in reversed(range(len(lines))) if " x1  0x" in lines[i])
    lines[load] = lines[load].replace("0x0000000001001b26", "0x0000000001001b90")
    store = spike_log.commit(3, 0x8000_0000, 0x00B53023, f"mem 0x80200fd0 0x{7:016x}")
    report = check(imported([*lines[:load], store, *lines[load:]]))
    assert report.clean
    (z2,) = (result for result in report.results if result.rule.id == "Z2")
    assert z2.not_evaluated == "what was compared is not recorded, in 1 of 1 rows of cfi"


def doctored(program: str, kind: str, change: Callable[[str], str], tmp_path: Path) -> list[str]:
    """The log of a program, with a line of a kind changed: the first that no return precedes."""
    model = spike_log.record(ROOT / f"fixtures/bin/{program}.elf", tmp_path / "model.run")
    rows = model.table("cfi").filter(pl.col("kind").cast(pl.String) == kind)
    places = {f"0x{pc:016x}" for pc in rows["pc"]}
    lines = list(spike_log.lines(model, verbose=False))
    user = [i for i, line in enumerate(lines) if line[10] == "0" and lines[i - 1][10] == "0"]
    at = next(i for i in user if lines[i].split()[3] in places)
    assert change(lines[at]) != lines[at]
    lines[at] = change(lines[at])
    return lines


def moved(line: str) -> str:
    """With an ssp that is 4 bytes off."""
    value = line.split("c17_ssp ")[1][:18]
    return line.replace(f"c17_ssp {value}", f"c17_ssp 0x{int(value, 16) + 4:016x}")


@pytest.mark.parametrize(
    ("program", "kind", "change", "rule", "column"),
    [
        ("green-threads", "sspush", moved, "Z1", "ssp_after"),
        ("green-threads", "sspopchk", moved, "Z2", "ssp_after"),
        ("green-threads", "ssp_write", moved, "Z4", "ssp_after"),
        ("green-threads", "ssrdp", lambda line: f"{line[:-1]}4", "Z3", "value"),
        (
            "green-threads",
            "sspush",
            lambda line: line.replace("mem 0x00007ffff7", "mem 0x00007ffff6"),
            "Z1",
            "addr",
        ),
    ],
)
def test_a_doctored_log_is_convicted(
    program: str,
    kind: str,
    change: Callable[[str], str],
    rule: str,
    column: str,
    tmp_path: Path,
    imported: Callable[..., Run],
) -> None:
    expected, _ = first(check(imported(doctored(program, kind, change, tmp_path))), rule)
    assert expected.startswith(column)


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (0x0000_1017, "satisfied"),  # lpad 1, as x7 has it
        (0x0000_2017, "satisfied"),  # the log tells no ELP: it may have been a nop
        (0x0000_0013, "violated"),
    ],
)
def test_where_an_indirect_jump_lands(
    target: int, outcome: str, imported: Callable[..., Run]
) -> None:
    lines = [
        *spike_log.boot(spike_log.LPE),
        spike_log.write(1, 0x200, spike_log.SENVCFG, spike_log.LPE),
        spike_log.commit(0, 0x300, 0x0000_13B7, spike_log.register(7, 0x1000)),
        spike_log.commit(0, 0x304, 0x4000_0313, spike_log.register(6, 0x400)),
        spike_log.commit(0, 0x308, 0x0003_0067),  # jalr x0, 0(x6)
        spike_log.commit(0, 0x400, target),
    ]
    (z6,) = (r for r in check(imported(lines)).results if r.rule.id == "Z6")
    assert z6.outcome == outcome
    assert all(found.expected == "fault 18: no pad is there" for found in z6.findings)


def test_harts_and_address_spaces(imported: Callable[..., Run]) -> None:
    """Each hart has an ssp of its own; a word of one address space is not that of another."""
    boot = list(spike_log.boot(spike_log.SSE))
    other = [line.replace("core   0", "core   1") for line in boot]
    satp = spike_log.write(1, 0x100, spike_log.SATP, 0x8000_0000_0009_0000).replace("0:", "1:", 1)
    on = spike_log.write(1, 0x200, spike_log.SENVCFG, spike_log.SSE)
    top = spike_log.write(1, 0x204, spike_log.SSP, 0x9000)
    push = (
        *(spike_log.register(1, 0x40), spike_log.csr(spike_log.SSP, 0x8FF8)),
        f"mem 0x{0x8FF8:016x} 0x{0x40:016x}",
    )
    pop = (spike_log.csr(spike_log.SSP, 0x9000), f"mem 0x{0x8FF8:016x}")
    lines = [*boot, *other, satp]
    for hart in range(2):
        lines += [line.replace("core   0", f"core   {hart}") for line in (on, top)]
    lines += [
        spike_log.commit(0, 0x300, 0x00008067, spike_log.register(1, 0x40)),
        spike_log.commit(0, 0x304, 0xCE104073, *push[1:]),
        spike_log.commit(0, 0x308, 0xCDC0C073, *pop),
        spike_log.commit(0, 0x308, 0xCDC0C073, *pop, hart=1),
    ]
    rows = imported(lines).table("cfi").filter(pl.col("addr").is_not_null())
    assert rows.select("tid", "mm", "value", "operand").rows() == [
        (1, 2, 0x40, None),
        (1, 2, 0x40, 0x40),
        (2, 3, None, 0),
    ]


def test_what_a_log_without_its_beginning_tells(imported: Callable[..., Run]) -> None:
    """The rows begin where ssp is known; what was pushed before is not."""
    lines = [line for line in lines_of(LOG) if line.startswith("core   0: 0 0x")]
    pushes = [i for i, line in enumerate(lines) if "c17_ssp" in line]
    run = imported(lines[pushes[1] - 2 :])
    assert run.table("cfi").height == 5 - 1  # the first push only tells ssp
    assert any("2 instructions were left out" in told for told in run.manifest.warnings)
    assert run.manifest.provenance.blind == {
        "faults": "the log has no exceptions: record it with -l"
    }


def test_older_forms_are_read(imported: Callable[..., Run]) -> None:
    """Without the hart, with a space in a register's name, and packed."""
    lines = [line for line in lines_of(LOG) if line.startswith("core   0: ")]
    old = [
        line.replace("core   0: ", "", 1).replace(" x5  ", " x 5 ").replace(" x1  ", " x 1 ")
        for line in lines
        if line[10:12] in ("0 ", "1 ", "3 ")
    ]
    path = imported(old).path
    assert path is not None
    packed = path.with_name("old")
    text = "".join(f"{line}\n" for line in old).encode()
    for pack in (lzma.compress, bz2.compress, gzip.compress, _by("zstd"), _by("lz4")):
        packed.write_bytes(pack(text))
        assert imported(packed).table("cfi").height == 9
        packed.write_bytes(pack(text)[:-20])
        with pytest.raises(BadRecording, match="old"):
            imported(packed)


def _by(codec: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return bytes(sink.getvalue())

    return pack


def test_lines_of_the_guest_are_counted(imported: Callable[..., Run]) -> None:
    lines = lines_of(LOG)
    run = imported([*lines[:9], "bbl loader", "Hello", *lines[9:]])
    assert "2 lines are no part of the log (the first: 10)" in run.manifest.warnings


def test_a_last_line_that_was_cut_off(imported: Callable[..., Run]) -> None:
    run = imported("".join(f"{t}\n" for t in lines_of(LOG)[:500]) + "core   0: 0 0x0000000001")
    assert "the last line is incomplete and was left out" in run.manifest.warnings


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("core   0: 0 0x0000000001001b74 (0xcdc0", "not a line of a commit log"),
        ("core   0: 0 0x0000000001001b74 (0xcdc0c073) x1", "not a line of a commit log"),
        ("core   0: 0 0x0000000001001b74 (0xcdc0c073) mem", "not a line of a commit log"),
        ("core   0: 0 0x0000000001001b74 (0xcdc0c073) x99 0x0", "not a line of a commit log"),
        ("core   0: 0 0x80000000 (0xcdc0c073)", "the log of a 32-bit hart"),
        ("core   0: exception trap_of_the_day, epc 0x0000000001001b74", "an unknown exception"),
    ],
)
def test_a_line_that_cannot_be_read(
    line: str, told: str, imported: Callable[..., Run], tmp_path: Path
) -> None:
    with pytest.raises(BadRecording, match=told) as found:
        imported([*lines_of(LOG)[:20], line, "core   0: 0 0x0000000001001b74 (0xcdc0c073)"])
    assert f"{tmp_path / 'log'}:21: " in found.value.what
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("text", ["", "no log at all\n", "core   0: >>>>  main\n"])
def test_no_log(text: str, imported: Callable[..., Run]) -> None:
    with pytest.raises(BadRecording, match="no instruction in it"):
        imported(text)


def test_nothing_tells_ssp(imported: Callable[..., Run]) -> None:
    with pytest.raises(BadRecording, match="nothing in the log tells what ssp is"):
        imported(["core   0: 0 0x0000000001001b74 (0xcdc0c073)"])


def test_a_program_that_was_loaded_anywhere(imported: Callable[..., Run]) -> None:
    with pytest.raises(BadProgram, match="position-independent"):
        imported(LOG, executable=ROOT / "fixtures/bin/pthread-pie.elf")


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a.run")
    assert command(["import", "spike", str(LOG), "--exe", str(LONGJMP), "-o", out]) == 0
    assert "1492 instructions, 10 of shadow stacks" in capfd.readouterr().err
    assert command(["explain-fault", out, "1492.1"]) == 0
    told = capfd.readouterr().out
    assert "the word that matches is 4 words further up" in told
    assert command(["replay", out]) == Exit.INPUT
    assert command(["import", "spike", str(LOG), "-o", out]) == Exit.USAGE  # it exists
    assert command(["import", "spike", str(tmp_path / "none"), "-o", f"{out}2"]) == Exit.INPUT


TEXT = "\n".join(lines_of(LOG)[:60]) + "\n"


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    at=st.integers(0, len(TEXT) - 1),
    cut=st.integers(0, 30),
    new=st.text("0 xcm()f:\n9", max_size=4),
)
def test_damaged_logs_are_refused_or_read(tmp_path: Path, at: int, cut: int, new: str) -> None:
    log = tmp_path / "damaged"
    log.write_text(TEXT[:at] + new + TEXT[at + cut :])
    status = command(["import", "spike", str(log), "-o", str(tmp_path / "d.run"), "--force"])
    assert status in (Exit.OK, Exit.INPUT)
    if status == Exit.OK:
        check(Run.open(tmp_path / "d.run"), select=JUDGED)
