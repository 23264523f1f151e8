"""Plugins: what they receive, that they don't change a run, and how they end one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from shstk.plugin import (
    Blocks,
    Fault,
    Instructions,
    Memory,
    Module,
    Plugin,
    Rows,
    Syscall,
)
from shstk.replay.run import Run
from shstk.schemas.errors import BadPlugin, BadRun, UsageError
from shstk.tracer.guest import execute
from shstk.tracer.options import GuestOptions
from shstk.tracer.plugins.session import Plugins
from shstk.tracer.record import RecordOptions, RecordResult, record
from shstk.tracer.recording import rundir
from shstk.tracer.recording.nothing import NullRecorder

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
ALL = frozenset({"cfi", "flow", "insn"})


class Everything(Plugin):
    """Keeps everything that it receives."""

    wants = (Rows("mappings"), Rows("cfi"), Rows("code"), Rows("inputs"), Blocks(), Instructions(),
             Memory())  # fmt: skip
    every = 5000

    def __init__(self) -> None:
        self.batches: dict[str, list[pa.RecordBatch]] = {}
        self.calls: list[Syscall] = []
        self.returns: list[Syscall] = []
        self.faults: list[Fault] = []
        self.modules: list[Module] = []

    def keep(self, name: str, batch: pa.RecordBatch) -> None:
        assert batch.num_rows
        self.batches.setdefault(name, []).append(batch)

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        self.keep(table, batch)

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        self.keep("blocks", batch)

    def on_instructions(self, batch: pa.RecordBatch) -> None:
        self.keep("insn", batch)

    def on_memory(self, batch: pa.RecordBatch) -> None:
        self.keep("memory", batch)

    def on_syscall(self, call: Syscall) -> None:
        assert self.guest.icount * 2**20 <= call.seq
        assert self.guest.registers(call.tid)[17] == call.nr
        self.calls.append(call)

    def on_return(self, call: Syscall) -> None:
        self.returns.append(call)

    def on_fault(self, fault: Fault) -> None:
        assert self.guest.pc(fault.tid) == fault.pc
        self.faults.append(fault)

    def on_module(self, module: Module) -> None:
        self.modules.append(module)

    def frame(self, name: str) -> pl.DataFrame:
        found = pl.from_arrow(pa.Table.from_batches(self.batches[name]))
        assert isinstance(found, pl.DataFrame)
        return found

    def finish(self) -> Any:
        return {"batch": list(self.batches), "count": [len(b) for b in self.batches.values()]}

    def summary(self) -> str:
        return "all kept"


def recorded(out: Path, *plugins: Plugin, program: str = "signals", **more: Any) -> RecordResult:
    path = str(FIXTURES / f"{program}.elf")
    return record(RecordOptions(path, out=out, plugins=plugins, **more))


def tables(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.glob("*.parquet")}


@pytest.mark.parametrize("program", ["signals", "pthread-off", "processes"])
@pytest.mark.parametrize("trace", [frozenset[str](), frozenset({"cfi"}), ALL])
def test_the_run_is_the_same_with_and_without(
    tmp_path: Path, program: str, trace: frozenset[str]
) -> None:
    recorded(tmp_path / "a", program=program, trace=trace)
    recorded(tmp_path / "b", Everything(), program=program, trace=trace)
    assert tables(tmp_path / "a") == tables(tmp_path / "b")
    without, with_ = (json.loads((tmp_path / n / "manifest.json").read_text()) for n in "ab")
    assert with_.pop("plugins")
    assert without.pop("sha256") != with_.pop("sha256")
    assert without.pop("plugins") == {}
    assert without == with_


def test_batches_hold_what_the_tables_hold(tmp_path: Path) -> None:
    plugin = Everything()
    result = recorded(tmp_path / "run", plugin, trace=ALL)
    run = Run.open(result.path)
    for name in ("mappings", "cfi", "code", "insn", "inputs"):
        assert plugin.frame(name).equals(run.table(name).select(plugin.frame(name).columns)), name
    flow, blocks = run.table("flow"), plugin.frame("blocks")
    assert blocks.select(flow.columns).equals(flow)
    code = {row["block"]: row for row in run.table("code").rows(named=True)}
    for row in blocks.unique("block").rows(named=True):
        of = code[row["block"]]
        assert (row["pc"], row["length"], row["module"]) == (of["pc"], of["length"], of["module"])
    insn, memory = run.table("insn"), plugin.frame("memory")
    accessed = insn.filter(pl.col("mem_size").is_not_null())
    assert memory["seq"].equals(accessed["seq"])
    assert memory["addr"].to_list() == accessed["mem_addr"].to_list()
    assert memory.filter(~pl.col("read") & ~pl.col("write")).is_empty()
    pushes = run.table("cfi").filter(pl.col("kind").cast(pl.String).is_in(["sspush", "sspopchk"]))
    assert memory.filter("shadow_stack")["seq"].to_list() == pushes["seq"].to_list()


def test_instructions_of_a_block_are_those_that_ran(tmp_path: Path) -> None:
    """The longjmp program ends only its last block early."""
    plugin = Everything()
    result = recorded(tmp_path / "run", plugin, program="pthread-off")
    assert plugin.frame("blocks")["instructions"].sum() == plugin.frame("insn").height
    assert plugin.frame("insn").height == result.icount


def test_calls_and_faults_are_told_at_once(tmp_path: Path) -> None:
    plugin = Everything()
    run = Run.open(recorded(tmp_path / "run", plugin, program="longjmp").path)
    calls = run.table("syscalls").filter(pl.col("outcome") != "loader")
    assert sorted(c.seq for c in plugin.calls) == calls["seq"].to_list()
    assert Counter(c.seq for c in plugin.calls) == Counter(c.seq for c in plugin.returns)
    told = {c.seq: c for c in plugin.returns}
    for row in calls.rows(named=True):
        call = told[row["seq"]]
        assert (call.name, call.ret, call.outcome) == (row["name"], row["ret"], row["outcome"])
        assert call.args == tuple(row[f"a{i}"] for i in range(6))
    assert all(c.ret is None and c.outcome is None for c in plugin.calls)
    faults = run.table("faults")
    assert faults.height == 1
    assert [vars(fault) for fault in plugin.faults] == faults.rows(named=True)
    (module,) = plugin.modules
    assert module.path == "/longjmp.elf"
    assert module.data == (FIXTURES / "longjmp.elf").read_bytes()


def test_batches_come_at_the_same_instructions_in_every_run(tmp_path: Path) -> None:
    first, second = Everything(), Everything()
    recorded(tmp_path / "a", first, program="pthread-off")
    recorded(tmp_path / "b", second, program="pthread-off", trace=frozenset[str]())
    for name, batches in first.batches.items():
        assert [b.to_pylist() for b in batches] == [b.to_pylist() for b in second.batches[name]]
    ends = [b["seq"][-1].as_py() // 2**20 for b in first.batches["insn"]]
    assert ends[:-1] == [n * 5000 for n in range(1, len(ends))]


class Ranges(Plugin):
    wants = ()

    def __init__(self, *wants: Any) -> None:
        self.wants = wants
        self.kept: list[dict[str, Any]] = []

    def on_memory(self, batch: pa.RecordBatch) -> None:
        self.kept += batch.to_pylist()


class InstructionRanges(Ranges):
    on_memory = Plugin.on_memory  # type: ignore[assignment]

    def on_instructions(self, batch: pa.RecordBatch) -> None:
        self.kept += batch.to_pylist()


def seqs(rows: list[dict[str, Any]]) -> list[int]:
    return [row["seq"] for row in rows]


def test_ranges(tmp_path: Path) -> None:
    everything = Everything()
    recorded(tmp_path / "all", everything)
    memory, insn = everything.frame("memory"), everything.frame("insn")
    reads = memory.filter("read")["addr"]
    word = reads[reads.len() // 2]
    low = word // 4096 * 4096
    wants = {
        (Memory(low, low + 4096),): lambda r: low - r["size"] < r["addr"] < low + 4096,
        (Memory(word + 1, word + 2, writes=False),): lambda r: (
            r["read"] and word + 1 - r["size"] < r["addr"] < word + 2
        ),
        (Memory(reads=False), Memory(low, low + 4096)): lambda r: (
            r["write"] or low - r["size"] < r["addr"] < low + 4096
        ),
    }
    cases: list[tuple[Ranges, pl.DataFrame, Callable[[dict[str, Any]], bool]]] = [
        (Ranges(*w), memory, inside) for w, inside in wants.items()
    ]
    middle = insn["pc"].sort()[insn.height // 2]
    narrow = InstructionRanges(Instructions(middle, middle + 2), Instructions(middle + 8, 2**64))
    cases.append((narrow, insn, lambda r: middle <= r["pc"] < middle + 2 or r["pc"] >= middle + 8))
    for i, (plugin, rows, inside) in enumerate(cases):
        recorded(tmp_path / str(i), plugin)
        expected = [row for row in rows.rows(named=True) if inside(row)]
        assert expected
        assert len(expected) < rows.height
        assert seqs(plugin.kept) == seqs(expected)


class StopAt(Plugin):
    def __init__(self, name: str) -> None:
        self.call = name
        self.after = 0

    def on_syscall(self, call: Syscall) -> None:
        self.after += self.stopped is not None
        if call.name == self.call:
            self.stop(f"{call.name} by task {call.tid}")


def test_stop(tmp_path: Path) -> None:
    plugin = StopAt("clone")
    result = recorded(tmp_path / "run", plugin, program="pthread-off")
    run = Run.open(result.path)
    assert (run.manifest.ending, run.manifest.complete) == ("stopped", False)
    assert run.manifest.warnings == ("plugin stop_at stopped the run: clone by task 100",)
    assert result.describe() == "stopped by a plugin"
    last = run.table("syscalls").row(-1, named=True)
    assert last["name"] == "clone"
    assert last["seq"] // 2**20 == result.icount  # not one instruction more
    assert plugin.after == 0
    whole = Run.open(recorded(tmp_path / "whole", program="pthread-off").path)
    upto = whole.table("cfi").filter(pl.col("seq") <= last["seq"])
    assert run.table("cfi").equals(upto)


class Fails(Plugin):
    wants = (Rows("mappings"),)

    def __init__(self, where: str) -> None:
        self.where = where

    def at(self, where: str) -> None:
        if where == self.where:
            raise KeyError("sise")

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        self.at("on_rows")

    def on_syscall(self, call: Syscall) -> None:
        self.at("on_syscall")

    def on_fault(self, fault: Fault) -> None:
        self.at("on_fault")

    def on_module(self, module: Module) -> None:
        self.at("on_module")

    def finish(self) -> None:
        self.at("finish")

    def summary(self) -> str:
        self.at("summary")
        return ""


@pytest.mark.parametrize(
    "where", ["on_rows", "on_syscall", "on_fault", "on_module", "finish", "summary"]
)
def test_a_plugin_that_fails(tmp_path: Path, where: str) -> None:
    other = Everything()
    with pytest.raises(BadPlugin) as caught:
        recorded(tmp_path / "run", other, Fails(where), program="longjmp")
    assert f"plugin fails failed in {where} (test_plugin.py:" in caught.value.what
    assert caught.value.what.endswith("): KeyError: 'sise'")
    assert str(tmp_path / "run") in caught.value.hint
    run = Run.open(tmp_path / "run")  # nothing of it is lost
    assert run.table("plugin_everything").height
    assert "plugin_fails" not in run.names
    assert "sise" not in "".join(run.manifest.warnings)
    ended = run.manifest.ending
    assert ended == ("killed" if where in ("on_rows", "finish", "summary") else "stopped")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (type("NoMethod", (Plugin,), {"wants": (Blocks(),)}), "wants Blocks but has no on_blocks"),
        (
            type("NoWant", (Plugin,), {"on_memory": lambda self, batch: None}),
            "does not want Memory",
        ),
        (type("NoTable", (Fails,), {"wants": (Rows("mapping"),)}), "wants Rows..mapping"),
        (type("NoRange", (Ranges,), {"wants": (Memory(8, 8),)}), "not an address range"),
        (type("Nothing", (Ranges,), {"wants": (Memory(reads=False, writes=False),)}), "neither"),
        (type("Word", (Plugin,), {"wants": ("cfi",)}), "wants 'cfi'"),
        (type("Named", (Plugin,), {"name": "../x"}), "not an identifier"),
        (type("Often", (Plugin,), {"every": 0}), "every is 0"),
    ],
)
def test_what_cannot_be_wanted(made: type[Plugin], what: str) -> None:
    plugin = made.__new__(made)
    with pytest.raises(BadPlugin, match=what):
        Plugins([plugin], NullRecorder())


def test_two_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two plugins are named everything"):
        recorded(tmp_path / "run", Everything(), Everything())
    assert not list(tmp_path.iterdir())
    second = Everything()
    second.name = "second"
    run = Run.open(recorded(tmp_path / "run", Everything(), second).path)
    assert run.names[-2:] == ("plugin_everything", "plugin_second")


def test_nothing_is_traced_that_nobody_wants() -> None:
    assert Plugins([], NullRecorder(), 1).trace == 1
    assert Plugins([StopAt("x")], NullRecorder()).trace == 0
    assert Plugins([Fails("x")], NullRecorder()).trace == 0
    assert Plugins([Ranges(Memory())], NullRecorder(), 3).trace == 7
    assert list(Plugins([StopAt("x")], NullRecorder()).alarms()) == []
    rec = NullRecorder()
    assert Plugins([], rec).recorder is rec


def test_a_plugins_table_is_sealed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Everything()).path
    entry = Run.open(run).manifest.plugins["everything"]
    assert entry.columns == {"batch": "string", "count": "int64"}
    assert entry.rows == Run.open(run).table("plugin_everything").height
    file = run / "plugins/everything.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], whole + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(BadRun, match=r"everything\.parquet"):
            Run.open(run)
    file.write_bytes(whole)
    (run / "plugins/other.parquet").write_bytes(whole)
    with pytest.raises(BadRun, match="does not belong"):
        Run.open(run)


class Units(Plugin):
    """Says what one of its columns is."""

    def finish(self) -> pa.Table:
        told = {"unit": "address", "doc": "a place"}
        fields = [pa.field("where", pa.uint64(), metadata=told)]
        fields += [pa.field(name, pa.uint64()) for name in ("last_seq", "else")]
        return pa.table([[1], [2], [3]], pa.schema(fields))


def test_a_plugin_says_the_units_of_its_columns(tmp_path: Path) -> None:
    run = Run.open(recorded(tmp_path / "run", Units()).path)
    assert run.units("plugin_units") == {"where": "address", "last_seq": "seq"}
    assert run.units("flow") == {"seq": "seq", "tid": "pid", "mm": "number", "block": "number"}


def test_what_recovery_finds_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording cut off after the plugins finished, before the seal: it has no plugin tables."""

    def cut(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shstk.tracer.recording.recorder.Recorder.seal", cut)
    with pytest.raises(KeyboardInterrupt):
        recorded(tmp_path / "run", Everything())
    assert (tmp_path / "run.partial/plugins/everything.parquet").exists()
    run = Run.open(rundir.recover(tmp_path / "run.partial"))
    assert run.manifest.plugins == {}
    assert run.table("syscalls").height


def test_exec_has_plugins_too() -> None:
    plugin = Everything()
    result = execute(GuestOptions(str(FIXTURES / "signals.elf")), [plugin])
    (finished,) = result.plugins
    assert (finished.name, finished.summary) == ("everything", "all kept")
    assert finished.table is not None
    assert plugin.frame("insn").height == result.icount - len(plugin.faults)
    assert plugin.frame("inputs")["guest_path"].to_list() == ["/signals.elf"]
