"""A recorder that sees less makes no rule find more, and none be satisfied by more.

Every run of a rule's listing is judged by that rule as each recorder would have seen it.

    python tests/rules/test_recorders.py [RULE…]

does the same for recorders that miss any one table or column (10 minutes for all rules).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pytest

from shstk.listing import build_run
from shstk.listing.expected import expectations
from shstk.replay.facts import Facts
from shstk.replay.rules import RULES
from shstk.replay.run import Run
from shstk.schemas.manifest import Provenance
from shstk.schemas.selections import SELECTIONS, table_of
from shstk.schemas.tables import TABLES

sys.path.insert(0, str(Path(__file__).parent))

from test_rules import HERE


def rows(*names: str, without: str = "") -> dict[str, tuple[str, ...]]:
    """Tables and selections with their columns, without some."""
    return {
        name: tuple(
            c
            for c in TABLES[table_of(name)].names
            if f"{table_of(name)}.{c}" not in without.split()
        )
        for name in names
    }


# It asks for every step of the kernel, which the rows that a test takes out leave behind.
ORDER: Final = "R1"
SELECTED: Final = {
    "mappings[shadow_stack]": pl.col("shadow_stack") | (pl.col("op").cast(pl.String) == "unmap"),
    "task_events[lifetimes]": pl.col("kind")
    .cast(pl.String)
    .is_in(["created", "first_user", "exec_begin", "exec_done", "exit_begin"]),
    "task_events[mm_dropped]": pl.col("kind").cast(pl.String) == "mm_dropped",
}
# What each recorder can see.
OBSERVED: Final = {
    "qemu": rows(
        *(name for name in TABLES if name not in ("insn", "typed", "tree")),
        without="syscalls.state_hash sched.state_hash",
    ),
    "ftrace": rows(
        "task_events", "clones", "mms", "syscalls", "mappings", "signals", "sched",
        without="task_events.pc syscalls.pc syscalls.sp syscalls.ssp_entry syscalls.ssp_exit"
        " syscalls.state_hash mappings.input signals.frame signals.ss_ptr signals.token_addr"
        " signals.token_value signals.ssp_before signals.ssp_after sched.state_hash",
    ),
    "ftrace, few probes": rows(
        "task_events[lifetimes]", "clones", "mms", "syscalls", "mappings[shadow_stack]",
        without="task_events.pc task_events.addr syscalls.pc syscalls.sp syscalls.ssp_entry"
        " syscalls.ssp_exit syscalls.state_hash",
    ),
    "core": rows("mappings", "faults", "signals"),
    "spike": rows("cfi", "insn"),
    "strace": rows(
        "task_events[lifetimes]", "clones", "mms", "syscalls",
        without="task_events.ssp task_events.pc task_events.addr syscalls.pc syscalls.sp"
        " syscalls.ssp_entry syscalls.ssp_exit syscalls.state_hash",
    ),
}  # fmt: skip


def all_but_one(run: Run) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """What recorders observe that miss one table, or one column that may be null, of a run's; and
    what they miss. Every recorder knows the task of a row."""
    for name, table in TABLES.items():
        arrow = run.arrow(name)
        if arrow.num_rows:
            yield name, rows(*(t for t in TABLES if t != name))
        for column in table.columns:
            known = arrow.num_rows - arrow[column.name].null_count
            if column.nullable and known and column.name not in ("tid", "mm"):
                yield f"{name}.{column.name}", rows(*TABLES, without=f"{name}.{column.name}")


def as_seen(run: Run, observed: dict[str, tuple[str, ...]]) -> Run:
    """The run as a recorder that sees just this would have recorded it."""
    whole = Facts(run, run.row, "intent")
    observed = {
        name: columns
        for name, columns in observed.items()
        if run.arrow(table_of(name)).num_rows or whole.recorded(table_of(name))
    }
    tables: dict[str, pa.Table] = {}
    for name, columns in observed.items():
        table = run.arrow(table_of(name))
        if name in SELECTIONS:
            kept = run.table(table_of(name)).select(SELECTED[name]).to_series()
            table = table.filter(kept.to_arrow())
        for at, field in enumerate(table.schema):
            if field.nullable and field.name not in columns:
                table = table.set_column(at, field, pa.nulls(table.num_rows, field.type))
        if table_of(name) in tables:
            table = pa.concat_tables([tables[table_of(name)], table]).sort_by("seq")
        tables[table_of(name)] = table
    seen = Provenance(recorder="qemu", observed=observed)
    files = [data for h in run.table("inputs")["sha256"] if (data := run.held(h))]
    return Run.from_tables(replace(run.manifest, provenance=seen), tables, files)


def runs(rule: str) -> Iterator[tuple[Run, str]]:
    """The runs of a rule's listing, each with its expectation."""
    listing = HERE / f"{rule}.md"
    for name, expect in sorted({(e.run, e.expect) for e in expectations(listing.read_text())}):
        yield build_run(listing.read_text(), name, listing.name), expect


def wrong(
    rule: str, run: Run, expect: str, recorder: str, observed: dict[str, tuple[str, ...]]
) -> Iterator[str]:
    """What a rule says of what a recorder saw that it does not say of the whole."""
    everything = {name: TABLES[name].names for name in TABLES}
    whole = RULES[rule].check(Facts(as_seen(run, everything), run.row, expect))
    seen = as_seen(run, observed)
    found = RULES[rule].check(Facts(seen, seen.row, expect))
    known = {(f.seq, f.tid) for f in whole.findings}
    if extra := [f for f in found.findings if (f.seq, f.tid) not in known]:
        yield f"{rule} as seen by {recorder} finds {extra}"
    satisfied = found.checked - len(found.findings)
    if satisfied > whole.checked - len(whole.findings) and not found.unseen:
        yield f"{rule} as seen by {recorder} is satisfied {satisfied} times"


@pytest.mark.sample(30)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ORDER])
def test_what_a_recorder_cannot_see_violates_and_satisfies_nothing(rule: str) -> None:
    assert not [
        line
        for run, expect in runs(rule)
        for recorder, observed in OBSERVED.items()
        for line in wrong(rule, run, expect, recorder, observed)
    ]


if __name__ == "__main__":
    for rule in sys.argv[1:] or RULES:
        for run, expect in runs(rule):
            for missed, observed in all_but_one(run) if rule not in ORDER else ():
                for line in wrong(rule, run, expect, f"one without {missed}", observed):
                    print(line, flush=True)
