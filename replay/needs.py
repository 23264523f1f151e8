"""Which columns a rule needs, and in which rows a null means that their value was not observed.

A null is either unknown or not applicable. A rule cannot judge a run in which a value that it needs
is unknown: it would take the gap for a violation. Rules name a table, which stands for the columns
of ESSENTIAL, or a selection of its rows (schemas/selections.py), or a single column as
`table.column`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.schemas.causes import LOAD_PAGE, SOFTWARE_CHECK, STORE_ACCESS, STORE_PAGE
from shstk.schemas.selections import table_of
from shstk.schemas.seq import STEPS
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.tables import TRACED
from shstk.schemas.uapi import PR_GET_CFI, PR_SET_CFI

if TYPE_CHECKING:
    from shstk.replay.run import Run
    from shstk.schemas.manifest import Provenance

ESSENTIAL: Final = {
    "task_events": ("tid", "mm", "status"),
    "clones": ("tid", "mm", "seq_end", "child_tid", "ret"),
    "syscalls": ("tid", "seq_end", "ret"),
    "mappings": ("tid", "mm", "start", "old_start", "old_length"),
    "kernel_memory": ("tid", "mm"),
    "cfi": ("tid", "mm", "addr", "fault"),
    "signals": ("tid",),
    "faults": ("tid", "mm", "signo", "code", "si_addr"),
    "flow": ("tid", "mm"),
    "sched": ("tid", "from_tid"),
    "mms": ("mm", "from_mm"),
}


def _word(column: str, *words: str) -> pl.Expr:
    return pl.col(column).is_in(words)  # their numbers are compared, three times as quickly


_NEVER: Final = pl.lit(False)  # its null is a value
_RETURNED: Final = _word("outcome", "returned", "loader")
_DONE: Final = (pl.col("ret") >= 0) | (pl.col("ret") < -4095)
_RUNS: Final = pl.col("seq") >= STEPS  # the first task has neither a parent nor an mm at boot
_RETIRED: Final = pl.col("fault").is_null()
_FROM_SIGNAL: Final = ~_word("kind", "sigreturn")

# Where a column applies; a column that is not listed applies in every row.
_APPLIES: Final[dict[str, pl.Expr]] = {
    "task_events.mm": ~_word("kind", "reaped") & (~_word("kind", "created", "exec_begin") | _RUNS),
    "task_events.ssp": _word("kind", "first_user", "exec_done"),
    "task_events.addr": _word("kind", "clear_child_tid", "futex_wake"),
    "task_events.value": _word("kind", "created", "mm_dropped") & _RUNS,
    "task_events.status": _word("kind", "exec_done", "exit_begin", "reaped"),
    "clones.seq_end": pl.col("ret").is_not_null(),
    "clones.ret": pl.col("seq_end").is_not_null(),
    "clones.child_tid": pl.col("ret") > 0,
    "syscalls.seq_end": ~_word("outcome", "run_ended"),
    "syscalls.ret": _RETURNED,
    "syscalls.ssp_exit": _RETURNED,
    "syscalls.state_hash": _RETURNED,
    "mappings.start": _DONE,
    "mappings.prot": _word("op", "map", "protect") & _DONE,
    "mappings.flags": _word("op", "map", "remap") & _DONE,
    "mappings.old_start": _word("op", "remap") & _DONE,
    "mappings.old_length": _word("op", "remap") & _DONE,
    "syscalls.pc": ~_word("outcome", "loader"),
    "mappings.input": _NEVER,  # anonymous memory
    "kernel_memory.during": _NEVER,  # a signal frame
    "mms.from_mm": _word("cause", "fork"),
    "cfi.fault": _NEVER,  # it retired
    "cfi.addr": _word("kind", "sspush", "sspopchk", "ssamoswap"),
    "cfi.value": _RETIRED | (pl.col("fault") == SOFTWARE_CHECK),
    "cfi.operand": _word("kind", "sspopchk", "ssamoswap", "lpad")
    & (_RETIRED | (pl.col("fault") == SOFTWARE_CHECK)),
    "signals.frame": _word("kind", "delivery", "sigreturn"),
    "signals.signo": _FROM_SIGNAL,
    "signals.code": _FROM_SIGNAL,
    "signals.handler": _NEVER,  # none was entered
    "signals.ssp_before": ~_word("kind", "fatal"),
    "signals.ssp_after": ~_word("kind", "fatal"),
    "faults.address": pl.col("cause").is_in([LOAD_PAGE, STORE_ACCESS, STORE_PAGE]),
    "faults.expected": pl.col("cause") == SOFTWARE_CHECK,
    "faults.found": pl.col("cause") == SOFTWARE_CHECK,
    "faults.signo": _NEVER,  # it raised none
    "faults.code": _NEVER,
    "faults.si_addr": _NEVER,
    "sched.from_tid": ~_word("why", "start"),
}

# Options of prctl that set or tell a task's state: those of the merged kernel, and of the revisions
# before it.
_STATE: Final = (*range(71, 77), PR_GET_CFI, PR_SET_CFI)
_PRCTL: Final = pl.col("nr") == SYSCALLS["prctl"].number
_MAP: Final = pl.col("nr") == SYSCALLS["map_shadow_stack"].number
_SETS: Final = _PRCTL & (pl.col("a0") % 2**32).is_in(_STATE)
# Columns that are needed with a table, and in which rows: an argument on which it depends what a
# call should return, or what state it leaves.
_WITH: Final[dict[str, dict[str, pl.Expr]]] = {
    "syscalls": {
        "a0": _PRCTL | _MAP,
        **dict.fromkeys(("a1", "a2"), _SETS | _MAP),
        **dict.fromkeys(("a3", "a4"), _SETS),
    }
}


def in_words(needs: Iterable[str]) -> str:
    """The columns of some needs, by table: `syscalls: tid, ret; cfi: tid`."""
    columns: dict[str, dict[str, None]] = {}
    for need in needs:
        rows, _, column = need.partition(".")
        own = (column,) if column else ESSENTIAL.get(table_of(rows), ())
        columns.setdefault(rows, {}).update(dict.fromkeys(own))
    return "; ".join(f"{table}: {', '.join(names)}" for table, names in columns.items())


# In words, where the name is none.
_RECORDERS: Final = {"core": "a core dump"}


def unobservable(provenance: Provenance, need: str) -> str:
    """What of a need the run's recorder could not see, in words; empty if it could see all."""
    rows, _, column = need.partition(".")
    table = table_of(rows)
    if table == "sched" and provenance.smp > 1:
        return f"not observable on {provenance.smp} harts at once: one order of switches"
    columns = (column,) if column else ESSENTIAL.get(table, ())
    names = [f"{table}.{name}" for name in columns]
    who = f"not observable by {_RECORDERS.get(provenance.recorder, provenance.recorder)}"
    for blind in (*dict.fromkeys((table, rows)), *names):
        if blind in provenance.blind:
            return f"{who}: {blind}: {provenance.blind[blind]}"
    if provenance.observed is None:
        return ""
    seen = [
        set(known)
        for name, known in provenance.observed.items()
        if name in (table, rows) or (column and table_of(name) == table)
    ]
    if not seen:
        return f"{who}: {rows}"
    missing = [f"{table}.{name}" for name in columns if name not in set[str]().union(*seen)]
    return f"{who}: {', '.join(missing)}" if missing else ""


def joined(reasons: Iterable[str]) -> tuple[str, ...]:
    """The reasons that are not empty, each once; what one recorder cannot see in one of them."""
    found: dict[str, dict[str, None]] = {}
    for reason in filter(None, reasons):
        head, colon, what = reason.partition(": ")
        found.setdefault(head if colon else reason, {})[what] = None
    return tuple(
        f"{head}: {', '.join(told)}" if any(told) else head for head, told in found.items()
    )


def unobserved(run: Run, need: str) -> str:
    """The columns of a need that are unknown in some row, in words; empty if there are none."""
    rows, _, column = need.partition(".")
    table = table_of(rows)
    columns = (column,) if column else ESSENTIAL.get(table, ())
    if not columns:
        return ""
    applies = {name: _APPLIES.get(f"{table}.{name}", pl.lit(True)) for name in columns}
    if not column:
        applies |= _WITH.get(table, {})
    if table in TRACED:  # long: to read one takes longer than to ask its file
        whole = run.complete(table)
        applies = {name: where for name, where in applies.items() if name not in whole}
        if not {name for name, where in applies.items() if where is not _NEVER}:
            return ""
    scan = run.scan(table)
    unknown = [(where & pl.col(name).is_null()).sum() for name, where in applies.items()]
    counts = scan.select(
        count.alias(name) for count, name in zip(unknown, applies, strict=True)
    ).collect()
    for name, count in counts.row(0, named=True).items():
        if count:
            known = scan.select((applies[name] & pl.col(name).is_not_null()).any())
            if not known.collect().item():
                return f"the run's {table} table has no {name}"
            return f"{count} rows of {table} have no {name}"
    return ""
