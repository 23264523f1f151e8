"""Tasks and clones: every task's lifetime, and the shadow stack and ssp of every clone's child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.facts import Facts
from shstk.replay.views.view import frame
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

TASKS: Final = (
    Column("tid", "u32", "pid", "the task"),
    Column("pid", "u32", "pid", "the thread group it belongs to"),
    Column("parent", "u32?", "pid", "the task that created it"),
    Column("how", "str", "kind", "boot, thread, vfork, fork or worker (a kernel user-worker)"),
    Column("mm", "u32?", "number", "the address space it ended in"),
    Column("made_seq", "u64", "seq", "seq of the clone that created it, or of created"),
    Column("first_user_seq", "u64?", "seq", "its first return to user mode"),
    Column("first_ssp", "u64?", "address", "csr ssp at that moment"),
    Column("exit_seq", "u64?", "seq", "when its exit began; null if it was still alive"),
    Column("status", "i32?", "result", "its wait status"),
    Column("enabled_at_birth", "bool", "truth", "whether its shadow stack was on at first"),
    Column("enabled_at_end", "bool", "truth", "whether it was on at its last event"),
)

HANDOFFS: Final = (
    Column("seq", "u64", "seq", "seq of the clone"),
    Column("parent", "u32?", "pid", "the task that called"),
    Column("tid", "u32?", "pid", "the child; null if none was created"),
    Column("kind", "str", "kind", "thread (CLONE_VM), vfork (CLONE_VFORK) or fork (neither)"),
    Column("flags", "u64", "bits", "clone flags"),
    Column("parent_enabled", "bool", "truth", "whether the parent's shadow stack was on"),
    Column("stack_due", "bool", "truth", "whether the child should have a shadow stack, by intent"),
    Column("size_due", "u64?", "size", "its size; null if RLIMIT_STACK is unknown"),
    Column("base", "u64?", "address", "base of the shadow stack that was mapped"),
    Column("size", "u64?", "size", "its size, bytes"),
    Column("ssp_due", "u64?", "address", "where the child should start, given the mapping"),
    Column("ssp", "u64?", "address", "the ssp that it started with"),
    Column("parent_ssp", "u64?", "address", "the parent's ssp at the call"),
    Column("ret", "i64?", "result", "what the call returned"),
    Column("why", "str", "text", "why a stack is due, or not"),
)

_WHY: Final = {
    "thread": "CLONE_VM: a separate shadow stack is needed",
    "vfork": "CLONE_VFORK: shares its parent's",
    "fork": "neither CLONE_VM nor CLONE_VFORK: a copy of its parent's",
}


def tasks(run: Run) -> pl.DataFrame:
    facts = Facts(run, run.row, "intent")
    status = {x.task: x.event.status for x in facts.history.exits}
    return frame(
        TASKS,
        [
            (
                t.tid,
                t.pid,
                t.creator.tid if t.creator else None,
                t.how,
                t.mm,
                t.born,
                t.first_user.seq if t.first_user else None,
                t.first_user.ssp if t.first_user else None,
                t.exit_seq,
                status.get(t),
                t.made_with.enabled,
                t.state.enabled,
            )
            for t in facts.history.tasks
        ],
    )


def handoffs(run: Run) -> pl.DataFrame:
    facts = Facts(run, run.row, "intent")
    rows = []
    for c in facts.history.clones:
        stack = c.mapped.stack
        why = _WHY[c.kind] if c.before.enabled else "the parent's shadow stack is off"
        due = stack.top if stack else None if c.due else c.parent_ssp
        rows.append(
            (
                c.seq,
                c.row.tid,
                c.child.tid if c.child else None,
                c.kind,
                c.row.flags,
                c.before.enabled,
                c.due,
                c.size,
                stack.base if stack else None,
                stack.size if stack else None,
                due if c.child else None,
                c.first_ssp,
                c.parent_ssp,
                c.row.ret,
                why if facts.supported else "no CPU support",
            )
        )
    return frame(HANDOFFS, rows)
