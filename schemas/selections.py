"""Rows of a table that some recorders see while they miss the others, written `table[name]`.

A rule that needs no other rows names the selection, and can then judge such a recorder's runs.
"""

from __future__ import annotations

from typing import Final

from shstk.schemas.tables import TABLES

# Selection -> the column that tells, and its values.
SELECTIONS: Final[dict[str, tuple[str, tuple[str | bool, ...]]]] = {
    "mappings[shadow_stack]": ("shadow_stack", (True,)),
    "task_events[lifetimes]": (
        "kind",
        ("created", "first_user", "exec_begin", "exec_done", "exit_begin"),
    ),
}
# Every name of rows: the tables, and the selections.
SELECTED: Final = (*TABLES, *SELECTIONS)


def table_of(selection: str) -> str:
    """The table of a selection, or of a table itself."""
    return selection.partition("[")[0]
