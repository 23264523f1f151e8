"""When each task's shadow stack and landing pads were enabled, by its own prctl calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shstk.schemas.uapi import PR_SET_CFI

if TYPE_CHECKING:
    from shstk.replay.derive.history import History, Task


def statuses(history: History) -> pl.DataFrame:
    """One row for each point at which a task's status may have changed, sorted by seq.

    Columns: seq u64 (the end of the call), tid u32, shadow_stack bool (null: never enabled since
    the task was created or called execve), pads bool (null: not set by a call of the task).
    """
    rows: list[tuple[int, int, bool | None, bool | None]] = []
    rows += [(t.born, t.tid, t.made_with.enabled or None, None) for t in history.tasks]
    rows += [(e.seq, e.heir.tid, None, None) for e in history.execs]
    pads: dict[Task, bool] = {}
    for call in history.prctls:
        task, state = call.task, call.after
        if call.option == PR_SET_CFI and call.row.ret == 0:
            pads[task] = state.lp_enabled
        own = state.enabled if state.enabled_by == "prctl" else None
        rows.append((call.row.seq_end or call.seq, task.tid, own, pads.get(task)))
    schema = {"seq": pl.UInt64, "tid": pl.UInt32, "shadow_stack": pl.Boolean, "pads": pl.Boolean}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.sort("seq", maintain_order=True).unique(
        ["seq", "tid"], keep="last", maintain_order=True
    )
