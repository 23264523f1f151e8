"""A value that was not observed makes no rule find anything, and none count more than is left.

Each column that may be null is, in the runs that satisfy a rule: one cell of it, or all of them.
CI takes one run of each rule;

    python tests/rules/test_unobserved.py [RULE…]

takes all of them, and every cell.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest

from shstk.listing import build_run
from shstk.listing.expected import expectations
from shstk.replay.facts import Facts
from shstk.replay.rules import RULES
from shstk.replay.run import Run
from shstk.schemas.tables import TABLES

sys.path.insert(0, str(Path(__file__).parent))

from test_rules import HERE

# Columns whose null is a value, too: nothing tells whether it was observed.
MEANT: Final = {
    "cfi.fault": "the instruction retired",
    "kernel_memory.during": "the kernel stored it outside of all events",
    "mappings.input": "anonymous memory",
    "signals.handler": "no handler was entered",
}


def satisfied(rule: str) -> Iterator[tuple[Run, str]]:
    """The runs of a rule's listing that satisfy it, each with its expectation."""
    listing = (HERE / f"{rule}.md").read_text()
    own = [e for e in expectations(listing) if (e.rule, e.outcome) == (rule, "satisfied")]
    for name, expect in sorted({(e.run, e.expect) for e in own}):
        yield build_run(listing, name, f"{rule}.md"), expect


def unobserved(run: Run, table: str, column: str, cells: set[int]) -> Run:
    """The run with these cells of a column null."""
    tables = {name: run.arrow(name) for name in TABLES}
    rows = tables[table]
    values = [None if at in cells else v for at, v in enumerate(rows[column].to_pylist())]
    place, field = rows.schema.get_field_index(column), rows.field(column)
    tables[table] = rows.set_column(place, field, pa.array(values, type=field.type))
    files = [
        data for sha256 in run.arrow("inputs")["sha256"].to_pylist() if (data := run.held(sha256))
    ]
    return Run.from_tables(run.manifest, tables, files)


def wrong(rule: str, run: Run, expect: str, every_cell: bool) -> Iterator[str]:
    """What a rule says that it should not, and of which cells."""
    whole = RULES[rule].check(Facts(run, run.row, expect)).checked
    draw = random.Random(rule)
    for table, columns in TABLES.items():
        for column in columns.columns:
            name = f"{table}.{column.name}"
            filled = [
                at
                for at, v in enumerate(run.arrow(table)[column.name].to_pylist())
                if v is not None
            ]
            if not column.nullable or name in MEANT or not filled:
                continue
            some = filled if every_cell else [draw.choice(filled)]
            for cells in [set(filled), *({at} for at in some)]:
                made = unobserved(run, table, column.name, cells)
                result = RULES[rule].check(Facts(made, made.row, expect))
                if result.findings or result.checked > whole:
                    yield f"{rule} without {name} of rows {sorted(cells)}: {result}"


@pytest.mark.parametrize("rule", RULES)
def test_what_is_unknown_violates_nothing(rule: str) -> None:
    run, expect = next(satisfied(rule))
    assert not list(wrong(rule, run, expect, every_cell=False))


if __name__ == "__main__":
    for rule in sys.argv[1:] or RULES:
        for run, expect in satisfied(rule):
            for line in wrong(rule, run, expect, every_cell=True):
                print(line, flush=True)
