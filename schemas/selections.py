"""Rows of a table that some recorders see while they miss the others, written `table[name]`.

A rule that needs no other rows names the selection, and can then judge such a recorder's runs.
"""

from __future__ import annotations

from typing import Final

from shstk.schemas.tables import TABLES

# What rows each selects.
SELECTIONS: Final = {
    "mappings[shadow_stack]": "those of shadow stacks, and every unmap",
    "task_events[lifetimes]": "created, first_user, exec_begin, exec_done, exit_begin",
    "task_events[mm_dropped]": "mm_dropped",
}
# Every name of rows: the tables, and the selections.
SELECTED: Final = (*TABLES, *SELECTIONS)


def table_of(selection: str) -> str:
    """The table of a selection, or of a table itself."""
    return selection.partition("[")[0]
