"""What `--expect intent` judges every revision by: each fact that depends on the revision, once.

A fact that follows the revision is a change of interface between kernels. A fact with a value of
its own is the intent of the seed's comments and the merged kernel, whatever a revision's code does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shstk.schemas.revisions import Revision, first_with

FOLLOW: Final = "follows the revision"


@dataclass(frozen=True)
class Starred:
    """A fact that depends on the revision: the rule that checks it, its intent, its source."""

    rule: str  # its slug
    intent: str
    source: str
    # The switch and its value that introduced the fact; None: it binds under every revision.
    came_with: tuple[str, str] | None = None

    def binds(self, row: Revision) -> bool:
        """A switch changed on the command line changes a kernel's code, not its intent."""
        if self.came_with is None:
            return True
        switch, value = self.came_with
        return row.unturned[switch] == value

    @property
    def binds_from(self) -> str:
        """The first revision under which it binds."""
        return "always" if self.came_with is None else first_with(*self.came_with)


_SEED = "seed patch, usercfi.c"

INTENT: Final[dict[str, Starred]] = {
    "clone_gate": Starred(
        "disabled-child-gets-none",
        "correct",
        f'{_SEED}: "If shadow stack is not enabled on the new thread, skip any switch to a new'
        ' shadow stack."',
    ),
    "default_size": Starred(
        "thread-stack-size", FOLLOW, "calc_shstk_size; the size is each revision's own"
    ),
    "failed_clone": Starred(
        "failed-clone-frees-the-stack",
        "child's stack",
        f'{_SEED}: "When fork() with CLONE_VM fails, the child (tsk) already has a shadow stack'
        ' allocated, and exit_thread() calls this function to free it."',
    ),
    "user_worker": Starred(
        "user-worker-gets-none",
        "owns nothing",
        "process.c, copy_thread: the branch with args->fn allocates nothing",
    ),
    "exit": Starred(
        "exit-releases-once",
        "release",
        "mmu_context.h, deactivate_mm, from v7: released inside mm_release, before"
        " clear_child_tid; the seed frees in exit_thread to the same end",
    ),
    "exec": Starred(
        "exec-releases-old-stack",
        "release",
        "mmu_context.h, deactivate_mm, from v7",
        came_with=("release_hook", "deactivate_mm"),
    ),
    "exec_lock": Starred(
        "exec-clears-lock", "cleared", "fix in 7.0-rc7", came_with=("exec_lock", "cleared")
    ),
    "lock_arg": Starred("lock-needs-enabled", FOLLOW, "LOCK requires arg == 0 from v7"),
    "map_token_returns": Starred("map-returns-the-base", FOLLOW, "usercfi.c as merged: the base"),
    "sigframe": Starred("frame-has-its-layout", FOLLOW, "extension-header list from v5"),
    "signal_ssp": Starred(
        "delivery-pushes-a-token",
        "moved",
        "usercfi.c, save_user_shstk, from v2: set_active_shstk; a handler that pushes over the"
        " token could never return",
    ),
    "prctl_numbers": Starred("bad-prctl-is-refused", FOLLOW, "include/uapi/linux/prctl.h"),
    "cfi_prctl": Starred(
        "landing-pad-prctl", FOLLOW, "include/uapi/linux/prctl.h of 7.0; unknown bits from 7.1"
    ),
    "clone3_flags": Starred(
        "failed-clone-frees-the-stack",
        FOLLOW,
        "include/uapi/linux/sched.h: a clone3 with an unknown flag fails before it allocates",
    ),
    "nousercfi": Starred(
        "no-support-no-stack", FOLLOW, "riscv_nousercfi counts as no support, from v13"
    ),
    "cfi_regset": Starred(
        "regset-reads-and-sets-ssp", FOLLOW, "riscv_cfi_get of 7.2.13: -EINVAL without support"
    ),
    "ima_ext_1": Starred(
        "hwprobe-reports-both-extensions",
        FOLLOW,
        "uapi/asm/hwprobe.h of 7.3: bits 1 to 5 of key 16",
    ),
}
