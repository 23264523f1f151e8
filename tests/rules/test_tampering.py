"""Changes one cell of a recorded run, as if the record were wrong: some rule must notice.

The hashes are not checked: they would detect every change. `UNNOTICED` lists the columns whose
cells cannot be inferred from other rows, each with the reason. CI changes one cell in each table;

    python tests/rules/test_tampering.py [CELLS]

changes this number of cells in each column (default 4) and prints how many were noticed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.errors import BadRun
from shstk.schemas.tables import TABLES
from shstk.tracer.record import RecordOptions, record

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = {
    "pthread": ROOT / "shstk" / "guests" / "pthread.elf",
    "signals": ROOT / "fixtures" / "bin" / "signals.elf",
    "processes": ROOT / "fixtures" / "bin" / "processes.elf",
}
FLOOR: Final = 0.9  # of the cells outside of UNNOTICED
_ARGUMENT: Final = "an argument chosen by the program; only the calls that rules judge are checked"
_ANSWER: Final = "a result that no rule judges and no other row repeats"
_HASH: Final = "a hash of registers that are not recorded; shstk replay compares it"
_PLACE: Final = "registers of the program, recorded once"
_NAME: Final = "a name from outside, recorded once"
_FRAME: Final = (
    "a word of the frame, checked if kernel_memory has the frame and the handler returns"
)
_PLAIN: Final = "ordinary memory, whose other contents are not recorded"
_REQUEST: Final = "a request for ordinary memory; rules judge shadow stacks"
_TREE: Final = "metadata of the host's files; shstk replay compares it"
_BY: Final = "the task that used it first, which can be any task of the address space"
UNNOTICED: Final[dict[str, str]] = {
    **{f"syscalls.a{n}": _ARGUMENT for n in range(6)},
    "syscalls.ret": _ANSWER,
    "syscalls.sp": _PLACE,
    "syscalls.state_hash": _HASH,
    "sched.state_hash": _HASH,
    "task_events.pc": _PLACE,
    "modules.path": _NAME,
    "modules.bias": _NAME,
    "inputs.guest_path": _NAME,
    "clones.api": "redundant: it follows from the number of the call",
    "signals.sender": _NAME,
    "signals.alt_stack": _FRAME,
    "signals.handler": _FRAME,
    "signals.ss_ptr": _FRAME,
    "signals.token_value": _FRAME,
    "signals.sigreturn_seq": "any sigreturn of the task will do",
    "inputs.mode": _NAME,
    **{f"tree.{n}": _TREE for n in ("seq", "tid", "mm", "tree", "op", "path", "sha256")},
    "output.fd": _ARGUMENT,
    "output.bytes": "the program's text; only its length is checked",
    "mms.tid": _BY,
    "mms.cause": "address spaces of fork and exec differ only in what is mapped",
    "modules.tid": _BY,
    "code.tid": _BY,
    "kernel_memory.tid": _BY,
    "kernel_memory.addr": _PLAIN,
    "kernel_memory.op": _PLAIN,
    "kernel_memory.bytes": _PLAIN,
    **{f"mappings.{n}": _REQUEST for n in ("hint", "prot", "flags", "offset", "ret", "length")},
    "cfi.pc": "there is another instruction of the same kind, or its code does not start a block",
}


@cache
def recorded(program: str) -> Run:
    out = Path(_folder().name) / f"{program}.run"
    record(RecordOptions(program=str(PROGRAMS[program]), out=out))
    return Run.open(out)


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def columns() -> Iterator[tuple[str, str]]:
    """Every column of the tables that have rows in some program's run."""
    for name, table in TABLES.items():
        if any(recorded(p).arrow(name).num_rows for p in PROGRAMS):
            yield from ((name, column) for column in table.names)


def other(value: Any, type: pa.DataType, values: list[Any], draw: random.Random) -> Any:
    """A value of the same type that differs: near, far, or another row's."""
    rest = sorted({v for v in values if v is not None and v != value})
    if pa.types.is_boolean(type):
        return not value
    if pa.types.is_binary(type) or pa.types.is_large_binary(type):
        at = draw.randrange(len(value)) if value else 0
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"\1"
    if pa.types.is_integer(type):
        here = value or 0
        near = [here ^ 1, here ^ 8, here + 1 if here < 127 else here - 1]
        return draw.choice([*near, *draw.sample(rest, min(2, len(rest)))])
    return draw.choice(rest) if rest else f"{value}x"


def tampered(run: Run, table: str, column: str, draw: random.Random) -> tuple[Run, str]:
    """The run with one cell changed that was not null, and what was changed."""
    rows = run.arrow(table)
    values = rows[column].to_pylist()
    at = draw.choice([i for i, v in enumerate(values) if v is not None])
    changed = other(values[at], rows.field(column).type, values, draw)
    what = f"{table}.{column}[{at}] {values[at]!r} -> {changed!r}"
    values[at] = changed
    field = rows.field(column)
    place = rows.schema.get_field_index(column)
    cells = rows.set_column(place, field, pa.array(values, type=field.type))
    made = Run(run.manifest, run.path, {table: cells})
    made.table(table)
    return made, what


def noticed(run: Run) -> list[str]:
    """The rules with findings in the run; an unreadable run is noticed too."""
    try:
        return sorted(set(check(run, expect="revision").violated["rule"]))
    except BadRun as e:
        return [str(e)]


def cells(count: int, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, str, str, list[str]]]:
    """`count` cells of each wanted column: table, column, what was changed, who noticed."""
    for table, column in wanted:
        draw = random.Random(f"{table}.{column}")
        told = [p for p in PROGRAMS if recorded(p).arrow(table)[column].drop_null().length()]
        for _ in range(count if told else 0):
            run, what = tampered(recorded(draw.choice(told)), table, column, draw)
            yield table, column, what, noticed(run)


def test_a_changed_cell_is_noticed() -> None:
    draw = random.Random(0)
    judged = [c for c in columns() if ".".join(c) not in UNNOTICED]
    by_table: dict[str, list[tuple[str, str]]] = {}
    for table, column in judged:
        by_table.setdefault(table, []).append((table, column))
    wanted = [draw.choice(here) for here in by_table.values()]
    tried = list(cells(1, wanted))
    missed = [what for *_, what, rules in tried if not rules]
    assert len(tried) - len(missed) >= FLOOR * len(tried), missed


def test_unnoticed_columns_exist_and_have_a_reason() -> None:
    names = {f"{name}.{column}" for name, table in TABLES.items() for column in table.names}
    assert set(UNNOTICED) <= names
    assert all(UNNOTICED.values())


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unchanged_run_has_no_findings(program: str) -> None:
    assert noticed(recorded(program)) == []


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    score: dict[str, list[bool]] = {}
    for table, column, what, rules in cells(count, list(columns())):
        score.setdefault(f"{table}.{column}", []).append(bool(rules))
        print(what[:120], " ".join(rules) or "UNNOTICED", flush=True)
    judged = [hit for name, hits in score.items() if name not in UNNOTICED for hit in hits]
    everything = [hit for hits in score.values() for hit in hits]
    for name, hits in score.items():
        print(f"{name:32} {sum(hits)} of {len(hits)}{'  *' if name in UNNOTICED else ''}")
    total = f"of all columns {sum(everything)} of {len(everything)}"
    print(f"noticed: {sum(judged)} of {len(judged)}; {total}")
