"""The plugins that come with shstk, against the tables of the same run."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import polars as pl
import pytest

import shstk
from shstk.plugins import SHIPPED
from shstk.replay.run import Run
from shstk.schemas.errors import BadPlugin

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "fixtures/bin/faulty.elf"
PTHREAD = ROOT / "shstk/guests/pthread.elf"
INSN = ("cfi", "flow", "insn")


def of(tmp_path: Path, plugin: str, program: Path, *args: str, **guest: str) -> Run:
    """A run of everything with that plugin's table."""
    run = tmp_path / "x.run"
    shutil.rmtree(run, ignore_errors=True)
    shstk.record(program, *args, out=run, trace=INSN, plugins=[plugin], **guest)
    return Run.open(run)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_makes_its_table_twice_the_same(tmp_path: Path, name: str) -> None:
    made = []
    for _ in range(2):
        run = of(tmp_path, name, ROOT / "fixtures/bin/processes.elf")
        assert run.path
        made.append((run.path / f"plugins/{name}.parquet").read_bytes())
    assert made[0] == made[1]
    result = shstk.execute(ROOT / "fixtures/bin/processes.elf", plugins=[name])
    assert result.plugins[0].table == run.arrow(f"plugin_{name}")
    assert result.plugins[0].summary


def test_hot_blocks(tmp_path: Path) -> None:
    run = of(tmp_path, "hot_blocks", FAULTY, "two-tasks")
    table = run.table("plugin_hot_blocks")
    flow = run.table("flow").group_by("block").agg(pl.len().cast(pl.Int64), pl.col("seq").min())
    joined = table.join(flow, on="block")
    assert joined.height == table.height == flow.height
    assert joined["runs"].equals(joined["len"], check_names=False)
    assert joined["first_seq"].equals(joined["seq"], check_names=False)
    assert table["instructions"].is_sorted(descending=True)
    assert table["instructions"].sum() == run.table("insn").height
    main = table.filter(pl.col("symbol") == "takes_its_turn")
    assert "fixtures/programs/faulty.c:" in main["line"][0]


def test_insn_mix(tmp_path: Path) -> None:
    run = of(tmp_path, "insn_mix", PTHREAD)
    table = {row["mnemonic"]: row for row in run.table("plugin_insn_mix").rows(named=True)}
    cfi = run.table("cfi").group_by(pl.col("kind").cast(pl.String)).len()
    counted = dict(cfi.iter_rows())
    assert table["sspush"]["count"] == counted["sspush"]
    assert (table["sspopchk"]["count"], table["sspopchk"]["kind"]) == (
        counted["sspopchk"],
        "shadow stack",
    )
    words = run.table("insn")["word"]
    assert sum(row["count"] for row in table.values()) == words.len()
    assert sum(row["compressed"] for row in table.values()) == int((words & 3 != 3).sum())
    assert table["ecall"]["count"] == run.table("syscalls").height
    kinds = {name: table[name]["kind"] for name in ("ld", "sd", "beq", "jalr", "addi")}
    assert list(kinds.values()) == ["load", "store", "branch", "jump", "arithmetic"]


def test_page_heat(tmp_path: Path) -> None:
    run = of(tmp_path, "page_heat", PTHREAD)
    table = run.table("plugin_page_heat")
    stacks = shstk.stacks(run)
    inside = [
        any(base <= page < base + size for base, size in stacks.select("base", "size").iter_rows())
        for page in table["page"]
    ]
    assert (table["shadow_stack"] > 0).to_list() == inside
    accesses = run.table("insn").filter(pl.col("mem_size").is_not_null())
    assert table["bytes"].sum() == accesses["mem_size"].cast(pl.Int64).sum()
    assert table["first_seq"].min() == accesses["seq"].min()
    assert table["last_seq"].max() == accesses["seq"].max()


def test_call_graph_counts_every_instruction_once(tmp_path: Path) -> None:
    for program in (PTHREAD, *(ROOT / f"fixtures/bin/{n}.elf" for n in ("signals", "processes"))):
        run = of(tmp_path, "call_graph", program)
        table = run.table("plugin_call_graph")
        assert table["exclusive"].sum() == run.table("insn").height
        roots = table.filter(pl.col("caller").is_null())
        assert roots["inclusive"].sum() == table["exclusive"].sum()


def test_call_graph_by_name(tmp_path: Path) -> None:
    out = tmp_path / "graph.out"
    run = of(tmp_path, f"call_graph,out={out}", FAULTY)
    table = run.table("plugin_call_graph")
    edges = {(r["caller"], r["callee"]): r for r in table.rows(named=True)}
    assert edges[None, "_start"]["inclusive"] == run.table("insn").height
    assert edges["_start", "start_c"]["calls"] == 1
    assert "fn=start_c" in out.read_text()
    if shutil.which("callgrind_annotate"):
        subprocess.run(["callgrind_annotate", out], check=True, capture_output=True)


def test_call_graph_of_recursion_signals_and_longjmp(tmp_path: Path) -> None:
    run = of(tmp_path, "call_graph", FAULTY, "longjmp")
    table = run.table("plugin_call_graph")
    edges = {(r["caller"], r["callee"]): r for r in table.rows(named=True)}
    assert edges["jump", "jump"]["calls"] >= 1
    assert edges["jump", "jump"]["inclusive"] == 0
    assert edges["jump", "go_to"]["calls"] == 1
    whole = table.filter(pl.col("callee") == "jump")
    assert whole["inclusive"].sum() > whole["exclusive"].sum() > 0


def test_coverage(tmp_path: Path) -> None:
    drcov, lcov = tmp_path / "x.drcov", tmp_path / "x.info"
    run = of(tmp_path, f"coverage,drcov={drcov},lcov={lcov}", FAULTY, "store")
    table = run.table("plugin_coverage")
    assert table.height == run.table("code").height
    head, _, blocks = drcov.read_bytes().partition(b"bbs\n")
    lines = head.decode().splitlines()
    assert lines[:4] == [
        "DRCOV VERSION: 2",
        "DRCOV FLAVOR: drcov",
        "Module Table: version 2, count 1",
        "Columns: id, base, end, entry, path",
    ]
    number, base, end, _, path = lines[4].split(",")
    assert (number.strip(), path.strip()) == ("0", "/faulty.elf")
    assert lines[5] == f"BB Table: {table.height} "
    listed = sorted(struct.iter_unpack("<IHH", blocks))
    assert [(offset, length) for offset, length, _ in listed] == sorted(
        table.select("offset", "length").iter_rows()
    )
    assert all(int(base, 16) + offset < int(end, 16) for offset, _, _ in listed)

    source = next(
        record
        for record in lcov.read_text().split("end_of_record\n")
        if "SF:fixtures/programs/faulty.c\n" in record
    )
    counts = dict(
        map(int, line[3:].split(",")) for line in source.splitlines() if line.startswith("DA:")
    )
    text = (ROOT / "fixtures/programs/faulty.c").read_text().splitlines()

    def line_of(what: str) -> int:
        return next(n for n, line in enumerate(text, 1) if what in line)

    assert counts[line_of("cases[i].run();")] == 1
    assert counts[line_of("NOINLINE static u64 descend(")] == 0
    assert f"LF:{len(counts)}\nLH:{sum(n > 0 for n in counts.values())}\n" in source
    assert "FNDA:0,descend\n" in source
    assert "FNDA:1,store_to_shadow_stack\n" in source
    if shutil.which("lcov"):
        subprocess.run(["lcov", "--summary", lcov], check=True, capture_output=True)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin) as caught:
        of(tmp_path, f"coverage,lcov={tmp_path}/none/x.info", FAULTY)
    assert "plugin coverage failed in finish" in str(caught.value)
    assert "none/x.info: No such file" in str(caught.value)
    assert Run.open(tmp_path / "x.run").manifest.ending == "exited"


@pytest.mark.parametrize(
    ("case", "rule"), [("smashed", "Z2"), ("store", "Z8"), ("middle", "Z6"), ("overflow", "Z8")]
)
def test_ssp_watch_stops_at_a_fault(tmp_path: Path, case: str, rule: str) -> None:
    run = of(tmp_path, "ssp_watch", FAULTY, case)
    assert run.manifest.ending == "stopped"
    (seen,) = run.table("plugin_ssp_watch").rows(named=True)
    assert seen["rule"] == rule
    assert seen["seq"] == run.table("faults")["seq"].max()
    assert run.table("signals").filter(pl.col("seq") > seen["seq"]).is_empty()
    assert run.manifest.icount == seen["seq"] // 2**20


def test_ssp_watch_sees_the_first_push_on_anothers_stack(tmp_path: Path) -> None:
    """v3 gives threads their parent's stack; what the rule I3 finds, the watcher sees live."""
    run = of(tmp_path, "ssp_watch,every=1000", PTHREAD, kernel="v3")
    (seen,) = run.table("plugin_ssp_watch").rows(named=True)
    whole = tmp_path / "whole.run"
    shstk.record(PTHREAD, out=whole, kernel="v3")
    first = shstk.check(whole, select=["I3"]).violated["seq"].min()
    assert (seen["rule"], seen["seq"]) == ("I3", first)
    assert run.manifest.icount // 1000 == seen["seq"] // 2**20 // 1000 + 1


@pytest.mark.parametrize(
    "program", ["pthread-pads", "green-threads", "unwinding-longjmp", "processes", "signals", "a3"]
)
def test_ssp_watch_is_silent_where_all_is_well(tmp_path: Path, program: str) -> None:
    run = of(tmp_path, "ssp_watch,every=500", ROOT / f"fixtures/bin/{program}.elf")
    assert run.manifest.ending == "exited"
    assert run.table("plugin_ssp_watch").is_empty()


@pytest.mark.parametrize("how", ["grow", "signals", "step", "modify"])
def test_a_block_that_was_cut_counts_what_ran(tmp_path: Path, how: str) -> None:
    program = ROOT / "fixtures/bin/cuts.elf"
    out = tmp_path / "cut.run"
    shstk.record(program, how, out=out, plugins=["hot_blocks", "call_graph"], quantum=(1, 3))
    run = shstk.open(out)
    retired = run.manifest.icount
    if how == "grow":  # the stack grew that often, and an instruction ran again
        retired -= run.table("mappings").filter(pl.col("during").is_null()).height
    assert run.table("plugin_hot_blocks")["instructions"].sum() == retired
    calls = run.table("plugin_call_graph")
    assert calls["exclusive"].sum() == retired
    recursion = calls.filter(pl.col("caller") == pl.col("callee"))["calls"].max()
    assert how != "grow" or recursion == 200
