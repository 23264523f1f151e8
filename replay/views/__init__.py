"""The views that SQL offers beside the tables: derived, typed, one doc line for each column."""

from __future__ import annotations

from typing import Final

from shstk.replay.stacks import COLUMNS as STACK_COLUMNS
from shstk.replay.stacks import stacks
from shstk.replay.views import areas, causes, frames, slots, ssp_path, stays, tasks
from shstk.replay.views.view import View

VIEWS: Final[dict[str, View]] = {
    v.name: v
    for v in (
        View(
            "tasks",
            "Which tasks ran, who created them, how long, and was the shadow stack on?",
            "every task's lifetime, one row each",
            tasks.TASKS,
            tasks.tasks,
        ),
        View(
            "shadow_stacks",
            "Whose stack is this, who allocated it, who freed it or should have?",
            "every shadow stack: its owner, who allocated it, until when",
            STACK_COLUMNS,
            stacks,
        ),
        View(
            "stays",
            "Which task was on which shadow stack, from when until when?",
            "every stretch of time that a task's ssp was on one shadow stack",
            stays.COLUMNS,
            stays.build,
        ),
        View(
            "handoffs",
            "Which shadow stack and ssp should a clone's child have, and which did it get?",
            "every clone: the shadow stack and ssp of its child",
            tasks.HANDOFFS,
            tasks.handoffs,
        ),
        View(
            "ssp_path",
            "Where was a task's ssp, and what moved it?",
            "every event that records a task's ssp, with the reason if it moved",
            ssp_path.COLUMNS,
            ssp_path.build,
        ),
        View(
            "slots",
            "What was in a word of a shadow stack at a time, and who wrote it?",
            "every word written to a shadow stack: it is valid from from_seq until to_seq",
            slots.COLUMNS,
            slots.build,
        ),
        View(
            "areas",
            "What was mapped where at a time?",
            "every mapped range: it is valid from from_seq until to_seq",
            areas.COLUMNS,
            areas.build,
        ),
        View(
            "frames",
            "Who called whom, and did the call return?",
            "every call with its return, from the blocks that ran; signal handlers too",
            frames.FRAMES,
            frames.frames,
        ),
        View(
            "calls",
            "How often was a function called, and from which line?",
            "every pair of a call site and the function it called, with how often",
            frames.CALLS,
            frames.calls,
        ),
        View(
            "fault_causes",
            "Why did it fault: what was expected, who pushed it, what is the likely cause?",
            "every fault, with the explanation that `shstk explain-fault` gives",
            causes.COLUMNS,
            causes.build,
        ),
    )
}
