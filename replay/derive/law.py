"""What a check judges a run by: each switch's value, written out as relations.

`revision` is what that revision's code does; `intent` overrides it with the values of
replay/intent.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from shstk.replay.intent import FOLLOW, INTENT
from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import optional_of
from shstk.schemas.revisions import Revision, parse_default_size
from shstk.schemas.uapi import CLONE_EMPTY_MNTNS, CLONE_INTO_CGROUP, PAGE

# Where release_hook calls shstk_release, and so what is released where. exit_thread runs after
# exit_mm() has set current->mm = NULL, so its guard skips the release on a normal exit; a clone
# that fails late calls it for the child with its recorded base. deactivate_mm runs in mm_release.
_RELEASES: Final = {
    "exit_thread": {"exit": "nothing", "exec": "nothing", "failed_clone": "recorded base"},
    "deactivate_mm": {"exit": "release", "exec": "release", "failed_clone": "nothing"},
}
# By clone3_flags: the highest flag that exists.
_HIGHEST: Final = {"into_cgroup": CLONE_INTO_CGROUP, "empty_mntns": CLONE_EMPTY_MNTNS}


@dataclass(frozen=True)
class Law:
    """One expectation.

    clone_gate: correct (an enabled child passes) or inverted. exit, exec: release or nothing.
    failed_clone: child's stack, recorded base, or nothing. user_worker: owns nothing, or copies.
    default_size: divisor of RLIMIT_STACK and cap, bytes. first_prctl: GET's number.
    """

    clone_gate: str
    exit: str
    exec: str
    failed_clone: str
    user_worker: str
    default_size: tuple[int, int]
    exec_lock: str
    lock_arg: str
    map_token_returns: str
    sigframe: str
    signal_ssp: str
    first_prctl: int
    cfi_prctl: str
    clone3_flags: str
    cfi_regset: str
    ima_ext_1: str
    # The same in all revisions of riscv, and different on other architectures (below).
    least_size: int = 0
    asked_divisor: int = 1  # of clone3's stack_size
    below_top: int = 0  # where a thread starts: bytes below the top of its stack
    locked: str = "EINVAL"  # PR_SET while locked
    status_bits: int = 1  # the bits that PR_SET knows
    fork_owns: bool = True  # a forked child has its parent's base and size recorded

    def opens(self, enabled: bool) -> bool:
        """Whether shstk_alloc_thread_stack's test of is_shstk_enabled passes with this status."""
        return enabled == (self.clone_gate == "correct")

    def knows(self, api: str, flags: int) -> bool:
        """Whether a clone's flags exist. The others fail before anything is allocated; clone
        ignores those that it can't take."""
        return api != "clone3" or flags < 2 * _HIGHEST[self.clone3_flags]

    def size(self, asked: int, stack_limit: int | None) -> int | None:
        """calc_shstk_size: bytes; None if it depends on a limit that is not recorded."""
        if asked:
            return page_align(asked // self.asked_divisor)
        if stack_limit is None:
            return None
        divisor, cap = self.default_size
        return page_align(max(min(stack_limit // divisor, cap), self.least_size))


def page_align(size: int) -> int:
    """PAGE_ALIGN, with the kernel's wrap at 2**64."""
    return (size + PAGE - 1) % 2**64 // PAGE * PAGE


def law_of(row: Revision, expect: str, abi: str) -> Law:
    """The law of `expect` (intent or revision) under `row`. Raises UsageError."""
    values: dict[str, Any] = {switch: row[switch] for switch in row.settings}
    values |= _RELEASES[row["release_hook"]]
    # A user worker is cloned like any task, so it copies what its creator had recorded.
    values["user_worker"] = "copies"
    if expect == "intent":
        values |= {
            name: fact.intent
            for name, fact in INTENT.items()
            if fact.intent != FOLLOW and fact.binds(row)
        }
    elif expect != "revision":
        raise UsageError(f"unknown expectation {expect!r}", "known: intent revision")
    values["default_size"] = parse_default_size(values["default_size"])
    values["first_prctl"] = int(values["prctl_numbers"]) if abi == "own" else 74
    return Law(**{f.name: values[f.name] for f in fields(Law) if f.name in values})


# Other architectures: where they differ from the intent of riscv's merged kernel.
ARCHITECTURES: Final[dict[str, dict[str, Any]]] = {
    # arch/x86/kernel/shstk.c, 6.6 on
    "x86": {"default_size": (1, 4 << 30), "failed_clone": "child's stack", "locked": "EPERM"},
    # arch/arm64/mm/gcs.c, 6.13 on
    "arm64": {
        "default_size": (2, 2 << 30),
        "least_size": PAGE,
        "asked_divisor": 2,
        "below_top": 8,
        "failed_clone": "nothing",
        "locked": "EBUSY",
        "status_bits": 7,  # ENABLE, WRITE, PUSH
        "fork_owns": False,
    },
}


def law_elsewhere(architecture: str, row: Revision, abi: str) -> Law:
    """The law of another architecture. KeyError if unknown."""
    return replace(law_of(row, "intent", abi), **ARCHITECTURES[architecture])


def has_shadow_stacks(cpu: str, nousercfi: bool, row: Revision) -> bool:
    """cpu_supports_shadow_stack: Zicfiss, and not disabled by riscv_nousercfi."""
    return "zicfiss" in optional_of(cpu) and not (nousercfi and row["nousercfi"] == "obeyed")


def has_landing_pads(cpu: str, nousercfi: bool, row: Revision) -> bool:
    """cpu_supports_indirect_br_lp_instr."""
    return "zicfilp" in optional_of(cpu) and not (nousercfi and row["nousercfi"] == "obeyed")
