"""The rows of a campaign's dataset: one for each cell, with its findings in it.

A cell's findings and its summary are one row, so that they are stored together or not at all.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

FINDING: Final = pa.struct(
    [
        ("rule", pa.string()),
        ("slug", pa.string()),
        ("severity", pa.string()),
        ("doubtful", pa.bool_()),
        ("seq", pa.uint64()),
        ("tid", pa.int64()),
        ("mm", pa.int64()),
        ("addr", pa.uint64()),
        ("expected", pa.string()),
        ("actual", pa.string()),
        ("note", pa.string()),
        ("task", pa.string()),  # as `shstk diff` names it
        ("function", pa.string()),  # in which it happened
        ("root", pa.bool_()),  # it follows from no other
        ("cause", pa.string()),  # of the root: its rule and its words without their numbers
        ("words", pa.string()),  # those words
    ]
)
# The columns of a cell that are not in its spec. `kernel` is in the names of the partitions.
CELL: Final = pa.schema(
    [
        ("key", pa.string()),
        ("run", pa.string()),
        ("program", pa.string()),
        ("command", pa.string()),
        ("cpu", pa.string()),
        ("seed", pa.int64()),
        ("quantum", pa.string()),
        ("spec", pa.string()),
        ("outcome", pa.string()),
        ("ending", pa.string()),
        ("message", pa.string()),
        ("icount", pa.uint64()),
        ("schedule", pa.string()),
        ("output", pa.string()),
        ("causes", pa.int64()),
        ("evaluated", pa.list_(pa.string())),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("resident", pa.int64()),
        ("host", pa.string()),
        ("findings", pa.list_(FINDING)),
    ]
)
KERNEL: Final = pa.schema([("kernel", pa.string())])
WHOLE: Final = pa.schema([*CELL, *KERNEL])

# How a cell ended, from the campaign's point of view.
OUTCOMES: Final = {
    "finished": "the run was recorded and judged, however its program ended",
    "timeout": "it took longer than limits.seconds, and was killed",
    "memory": "it took more than limits.memory",
    "died": "its process died several times",
    "refused": "shstk refused to run or judge it, or could not write the run",
    "error": "an internal error of shstk",
}
FAILED: Final = tuple(name for name in OUTCOMES if name != "finished")
