"""What `--expect intent` holds every revision against: each starred fact of the reference, once.

A fact that follows the revision is a change of interface between kernels; a fact with a value of
its own is what the seed's comments and the merged kernel mean, whatever a revision's code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shstk.schemas.revisions import Revision, first_with

FOLLOW: Final = "follows the revision"


@dataclass(frozen=True)
class Starred:
    """A fact that depends on the revision: the rule that owns it, its intent, who says so."""

    rule: str
    intent: str
    source: str
    # The switch and its value that introduced the fact; None: it binds under every revision.
    came_with: tuple[str, str] | None = None

    def binds(self, row: Revision) -> bool:
        """Turning a switch changes what a kernel does, not what it means to do."""
        if self.came_with is None:
            return True
        switch, value = self.came_with
        return row.unturned[switch] == value

    @property
    def binds_from(self) -> str:
        """The first revision under which it binds."""
        return "always" if self.came_with is None else first_with(*self.came_with)


# The rules whose findings rest on a switch's value: where no source confirms it, they carry a (?).
RESTS_ON: Final[dict[str, frozenset[str]]] = {
    "clone_gate": frozenset({"A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "X5", "P8"}),
    "release_hook": frozenset({"A10", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8"}),
    "default_size": frozenset({"A6", "P6", "P8"}),
    "exec_lock": frozenset({"E2"}),
    "lock_arg": frozenset({"P9"}),
    "map_token_returns": frozenset({"M9"}),
    "nousercfi": frozenset({"A1", "M1"}),
    "sigframe": frozenset({"G3", "G4"}),
}

_SEED = "seed patch, usercfi.c"

INTENT: Final[dict[str, Starred]] = {
    "clone_gate": Starred(
        "A2",
        "correct",
        f'{_SEED}: "If shadow stack is not enabled on the new thread, skip any switch to a new'
        ' shadow stack."',
    ),
    "default_size": Starred("A6", FOLLOW, "calc_shstk_size; the size is each revision's own"),
    "failed_clone": Starred(
        "A10",
        "child's stack",
        f'{_SEED}: "When fork() with CLONE_VM fails, the child (tsk) already has a shadow stack'
        ' allocated, and exit_thread() calls this function to free it."',
    ),
    "user_worker": Starred(
        "A11", "owns nothing", "process.c, copy_thread: the branch with args->fn allocates nothing"
    ),
    "exit": Starred(
        "X1",
        "release",
        "mmu_context.h, deactivate_mm, from v7: released inside mm_release, before"
        " clear_child_tid; the seed frees in exit_thread to the same end",
    ),
    "exec": Starred(
        "X6",
        "release",
        "mmu_context.h, deactivate_mm, from v7",
        came_with=("release_hook", "deactivate_mm"),
    ),
    "exec_lock": Starred("E2", "cleared", "fix in 7.0-rc7", came_with=("exec_lock", "cleared")),
    "lock_arg": Starred("P9", FOLLOW, "LOCK insists on arg == 0 from v7"),
    "map_token_returns": Starred("M9", FOLLOW, "usercfi.c as merged: the base"),
    "sigframe": Starred("G3", FOLLOW, "extension-header list from v4 or v5"),
    "prctl_numbers": Starred("P0", FOLLOW, "include/uapi/linux/prctl.h"),
    "cfi_prctl": Starred("P10", FOLLOW, "include/uapi/linux/prctl.h of 7.0; unknown bits from 7.1"),
    "nousercfi": Starred("A1", FOLLOW, "riscv_nousercfi counts as no support, from v12 or v13"),
}
