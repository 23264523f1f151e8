"""What real kernels did, as ftrace saw it: imported and judged.

`python tests/realkernel/record_traces.py` records the traces again.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.replay.check import Report, check
from shstk.replay.diff.machines import RIGHTLY
from shstk.replay.run import Run
from shstk.schemas.errors import BadRecording, Exit, ShstkError, UsageError
from shstk.tracer.importers.ftrace import dat
from shstk.tracer.importers.ftrace.probes import PROBES
from shstk.tracer.packed import unpacked

ROOT = Path(__file__).parents[2]
TRACES = Path(__file__).with_name("traces")
NAMES = sorted(path.stem for path in TRACES.glob("*.zst"))
# The rules that a trace violates, and how often; all others find nothing.
VIOLATED = {"sc6": {"A10": 5}, "sc8": {"X5": 1}}
PTHREAD = {"A5": 4, "A7": 4, "A8": 4, "X1": 5, "X5": 5}
# Rules that must have had something to judge.
JUDGED = {
    **{name: PTHREAD for name in NAMES if name.startswith("pthread")},
    "pthread": {**PTHREAD, "A6": 4},
    "processes": {"A3": 1, "A4": 2, "X3": 1, "X6": 1, "E1": 2},
    "sc1": {"A5": 1, "X1": 2},
    "sc2": {"A5": 1, "X1": 2},
    "sc3": {"A3": 1, "X3": 1},
    "sc4": {"A4": 1, "X1": 2},
    "sc5": {"A2": 1, "X2": 1},
    "sc7": {"A3": 1, "X1": 1},
    "sc8": {"A11": 2},
    "sc9": {"A5": 3, "A9": 3, "P7": 12},
    "sc10": {"A5": 1, "P7": 1},
    "sc11": {"X6": 1, "E1": 1},
    "sc13": {"A3": 1, "P8": 2},
}


def bytes_of(name: str) -> bytes:
    path = TRACES / f"{name}.zst"
    return unpacked(path, path.read_bytes())


def lines_of(name: str) -> list[str]:
    return bytes_of(name).decode().splitlines()


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Run]:
    """A run of a recorded trace, or of bytes or lines."""

    def make(trace: str | bytes | list[str], **options: object) -> Run:
        path = TRACES / f"{trace}.zst"
        if not isinstance(trace, str):
            path = tmp_path / "trace"
            path.write_bytes(
                trace if isinstance(trace, bytes) else "".join(f"{t}\n" for t in trace).encode()
            )
        made = shstk.import_ftrace(path, tmp_path / "a.run", force=True, **options)  # type: ignore[arg-type]
        return Run.open(made.path)

    return make


def violated(report: Report) -> Counter[str]:
    return Counter(report.violated["rule"])


def whys(report: Report) -> dict[str, str]:
    return {result.rule.id: result.not_evaluated for result in report.results}


@pytest.mark.parametrize("name", NAMES)
def test_judged(name: str, imported: Callable[..., Run]) -> None:
    report = check(imported(name))
    assert violated(report) == VIOLATED.get(name, {})
    checked = {result.rule.id: result.checked for result in report.results}
    assert {rule: checked[rule] for rule in JUDGED.get(name, {})} == JUDGED.get(name, {})


def program(name: str) -> Path:
    if name.startswith("pthread"):
        return ROOT / "shstk/guests/pthread.elf"
    return ROOT / f"fixtures/bin/{name}.elf"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sc8"])
def test_the_model_does_the_same(name: str, tmp_path: Path, imported: Callable[..., Run]) -> None:
    """sc8 needs io_uring, which the model refuses. sc9 asks for more than the machine's memory."""
    model = shstk.record(program(name), out=tmp_path / "model.run", memory=1 << 30).path
    assert shstk.diff(model, imported(name)).same


def test_another_revision_does_something_else(tmp_path: Path, imported: Callable[..., Run]) -> None:
    model = shstk.record(program("pthread"), kernel="v6", out=tmp_path / "model.run").path
    found = shstk.diff(model, imported("pthread"))
    assert {name for d in found.differences for name, *_ in d.fields} == {
        "shadow_stacks.made",
        "shadow_stacks.released",
    }
    assert {"faults", "output", "task_events.pc", "paths"} <= {*found.left_out}
    assert "shadow_stacks" not in found.left_out


def test_runs_are_columns_of_the_matrix(
    imported: Callable[..., Run], capfd: pytest.CaptureFixture[str]
) -> None:
    real = str(imported("pthread").path)
    assert run(["matrix", "--kernels", "v6", "--run", real, str(program("pthread"))]) == 1
    header, first = (line.split() for line in capfd.readouterr().out.splitlines())
    assert header == ["rule", "slug", "v6", "a.run", "changes"]
    assert first[:4] == ["X1", "exit-releases-once", "5", "ok"]
    assert run(["matrix", "--all", "--format", "json", "--run", real]) == 0
    (x1,) = (line for line in json.loads(capfd.readouterr().out) if line["rule"] == "X1")
    assert x1["program"] == "pthread.elf"
    assert x1["kernels"]["a.run"]["unseen"] == ["not observable by ftrace: task_events"]
    assert run(["matrix", "--run", real, "-p", "a", "-p", "b"]) == Exit.USAGE


def test_what_machines_may_differ_in_is_documented() -> None:
    page = (ROOT / "docs/diff.md").read_text()
    for call, why in RIGHTLY.items():
        assert any(f"`{call}`" in line and why in line for line in page.splitlines()), call


def test_what_ftrace_cannot_see_is_not_judged(imported: Callable[..., Run]) -> None:
    why = whys(check(imported("pthread")))
    assert why["Z2"] == "not observable by ftrace: cfi"
    assert why["F1"] == "not observable by ftrace: faults"
    assert why["M8"] == "not observable by ftrace: kernel_memory"


def test_events_that_a_trace_lacks_are_named(imported: Callable[..., Run]) -> None:
    without = [line for line in lines_of("pthread") if "ss_unmap" not in line]
    report = check(imported(without))
    assert not violated(report)
    lacks = "mappings[shadow_stack]: the trace has no ss_own_unmap or ss_unmap"
    assert whys(report)["X1"] == f"not observable by ftrace: {lacks}"


def test_unseen_workers_of_io_uring_are_named(imported: Callable[..., Run]) -> None:
    without = [line for line in lines_of("sc8") if "sched_wakeup_new" not in line]
    assert whys(check(imported(without)))["X5"].endswith("sched_wakeup_new is off")


def test_the_manifest_says_who_saw_what(imported: Callable[..., Run]) -> None:
    manifest = imported("pthread-smp2").manifest
    assert manifest.provenance.recorder == "ftrace"
    assert manifest.provenance.smp == 2
    assert manifest.provenance.facts["banner"].startswith("Linux version 7.2.13")
    assert (manifest.kernel, manifest.program) == ("7.2", "/guests/pthread.elf")
    assert (manifest.ending, manifest.exit_status) == ("exited", 0)
    assert manifest.rlimits["STACK"].soft == 8 << 20


def test_every_probe_makes_events() -> None:
    seen = {line.split(": ")[1] for name in ("sc8", "signals") for line in lines_of(name)[12:]}
    assert {probe.split()[0].partition("/")[2] for probe in PROBES} <= seen


def test_trace_pipe_has_no_header(imported: Callable[..., Run]) -> None:
    made = imported([line for line in lines_of("pthread") if not line.startswith("#")])
    assert made.table("task_events").equals(imported("pthread").table("task_events"))


@pytest.mark.parametrize("table", ["syscalls", "task_events", "mappings", "clones"])
def test_trace_cmd_prints_what_its_file_holds(table: str, imported: Callable[..., Run]) -> None:
    assert imported("pthread-v7").table(table).equals(imported("pthread-report").table(table))


def test_the_run_ends_where_events_were_lost(imported: Callable[..., Run]) -> None:
    lines = lines_of("pthread")
    middle = max(i for i, line in enumerate(lines) if "sched_process_fork" in line)
    lines[middle : middle + 20] = ["CPU:0 [LOST 20 EVENTS]"]
    made = imported(lines)
    assert made.manifest.ending == "interrupted"
    assert made.manifest.warnings == (
        "20 events were lost: the run ends there (a larger buffer_size_kb keeps them)",
    )
    report = check(made)
    assert not violated(report)
    assert "the run was cut short: interrupted" in whys(report)["X7"]


def test_overwritten_events_of_another_hart_are_not_taken_for_granted(
    imported: Callable[..., Run],
) -> None:
    lines = [line.replace("written: ", "written: 9") for line in lines_of("pthread-smp2")]
    first = next(i for i, line in enumerate(lines) if "sched_process_exec" in line)
    hart = lines[first].partition("[")[2][:3]
    lines = [
        line for i, line in enumerate(lines) if i >= first or "[" not in line or f"[{hart}]" in line
    ]
    with pytest.raises(ShstkError, match="events were overwritten"):
        imported(lines)


def test_another_program_can_be_chosen(imported: Callable[..., Run]) -> None:
    lines = lines_of("sc6") + lines_of("pthread")
    assert imported(lines).manifest.program == "/guests/sc6.elf"
    other = shstk.open(imported("pthread").path).manifest.first_tid
    assert imported(lines, pid=other).manifest.program == "/guests/pthread.elf"
    with pytest.raises(UsageError, match=r"no program of pid 9999 .*\n.*--pid"):
        imported(lines, pid=9999)


def garbled(lines: list[str]) -> list[str]:
    return [
        line.replace("sched_process_exec: filename=", "sched_process_exec: fi") for line in lines
    ]


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (b"", "no program is executed in the trace, which has no event"),
        (b"\0\xff" * 1000, "which has no event"),
        (b"a letter, and no trace\n" * 50, "which has no event"),
        (garbled(lines_of("pthread")), r"trace:\d+: the event can't be read: '.*process_exec"),
        (lines_of("pthread")[:12], "no program is executed"),
        (bytes_of("pthread-v7")[:5000], "truncated at byte"),
        (bytes_of("pthread-v6")[:-1], "truncated at byte"),
        (bytes_of("pthread-v6").replace(b"ing6\0\0", b"ing6\0\1", 1), "64-bit little-endian"),
        (bytes_of("pthread-v6").replace(b"ing6", b"ing8", 1), "has version '8', not 6 or 7"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "is damaged"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused(
    trace: bytes | list[str], message: str, imported: Callable[..., Run]
) -> None:
    with pytest.raises(ShstkError, match=message) as raised:
        imported(trace)
    assert raised.value.exit is Exit.INPUT


@pytest.mark.parametrize("name", ["pthread-v6", "pthread-v7"])
def test_a_trace_dat_has_a_size_limit(name: str) -> None:
    """Few bytes of a file can claim the same pages for thousands of harts, or unpack to many."""
    data = bytes_of(name)
    events = sum(len(pages) for _, pages in dat.read(data, "t").pages)
    assert dat.read(data, "t", most=events).pages
    with pytest.raises(BadRecording, match="t: it claims too many bytes of events"):
        dat.read(data, "t", most=events - 1)


def test_a_section_of_a_trace_dat_has_a_size_limit() -> None:
    """That of the formats of ftrace's events, which is compressed: sections have a head of 16 bytes
    (id, flags, description, size), then the packed size and the other."""
    data = bytearray(bytes_of("pthread-v7"))
    at = data.index(b"zstd\x001.5.7\0") + 11 + 8  # the first section
    while data[at] != 17:
        at += 16 + int.from_bytes(data[at + 8 : at + 16], "little")
    data[at + 20 : at + 24] = b"\xff" * 4
    with pytest.raises(BadRecording, match="t: a section of 4294967295 bytes"):
        dat.read(bytes(data), "t")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ShstkError, match="none: No such file"):
        shstk.import_ftrace(tmp_path / "none", tmp_path / "a.run")


@pytest.mark.parametrize("seed", range(12))
def test_a_trace_cut_off_anywhere_is_no_finding(seed: int, imported: Callable[..., Run]) -> None:
    data = bytes_of("pthread")
    at = random.Random(seed).randrange(data.index(b"sched_process_exec") + 100, len(data))
    assert not violated(check(imported(data[:at])))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["pthread", "processes", "pthread-v6", "pthread-v7"])
def test_damaged_traces_make_runs_or_errors(
    name: str, seed: int, imported: Callable[..., Run]
) -> None:
    source, data = random.Random(seed), bytearray(bytes_of(name))
    for _ in range(20):
        data[source.randrange(len(data))] = source.choice(b"0159afx =[]():-\n\0\xff")
    try:
        check(imported(bytes(data)))
    except ShstkError as error:
        assert error.exit is Exit.INPUT  # noqa: PT017


@pytest.mark.parametrize("field", sorted({f for p in PROBES for f in re.findall(r" (\w+)=", p)}))
def test_a_trace_without_a_field(field: str, imported: Callable[..., Run]) -> None:
    """Who records may leave something out of a probe."""
    changed = [re.sub(rf" {field}=\S+", "", line) for line in lines_of("pthread")]
    try:
        imported(changed)
    except ShstkError as error:
        assert error.exit is Exit.INPUT  # noqa: PT017
