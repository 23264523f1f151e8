"""The registry: one line per rule. Ids are never reused or renumbered.

All other code refers to a rule by its slug, never by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Final

from shstk.replay.rules.outcome import Rule

# id, module (its name with hyphens is the slug), severity
CATALOGUE: Final = (
    ("ST1", "state_is_inherited", "error"),
    ("ST2", "calls_keep_ssp", "error"),
    ("A1", "no_support_no_stack", "error"),
    ("A2", "disabled_child_gets_none", "error"),
    ("A3", "vfork_shares", "error"),
    ("A4", "fork_copies", "error"),
    ("A5", "thread_gets_own_stack", "error"),
    ("A6", "thread_stack_size", "error"),
    ("A7", "thread_starts_at_its_top", "error"),
    ("A8", "ssp_set_before_first_run", "error"),
    ("A9", "allocation_error_fails_clone", "error"),
    ("A10", "failed_clone_frees_the_stack", "error"),
    ("A11", "user_worker_gets_none", "error"),
    ("X1", "exit_releases_once", "error"),
    ("X2", "disabled_task_releases_nothing", "error"),
    ("X3", "borrower_releases_nothing", "error"),
    ("X4", "other_mm_releases_nothing", "error"),
    ("X5", "only_the_owner_frees", "error"),
    ("X6", "exec_releases_old_stack", "error"),
    ("X7", "release_trusts_recorded_range", "warning"),
    ("X8", "leader_releases_at_its_exit", "error"),
    ("E1", "exec_resets_state", "error"),
    ("E2", "exec_clears_lock", "error"),
    ("P0", "bad_prctl_is_refused", "error"),
    ("P1", "get_stores_status", "error"),
    ("P2", "set_refuses_unknown_bits", "error"),
    ("P3", "set_refuses_when_locked", "error"),
    ("P4", "second_enable_does_nothing", "error"),
    ("P5", "enable_refuses_recorded_base", "error"),
    ("P6", "enable_maps_a_stack", "error"),
    ("P7", "disable_releases_own", "error"),
    ("P8", "borrower_keeps_the_parents_stack", "error"),
    ("P9", "lock_needs_enabled", "error"),
    ("P10", "landing_pad_prctl", "error"),
    ("M1", "map_needs_support", "error"),
    ("M2", "map_refuses_unknown_flags", "error"),
    ("M3", "map_needs_room_for_token", "error"),
    ("M4", "map_refuses_unaligned_address", "error"),
    ("M5", "map_refuses_huge_size", "error"),
    ("M6", "map_takes_only_free_ranges", "error"),
    ("M7", "map_refuses_size_zero", "error"),
    ("M8", "map_writes_token_or_nothing", "error"),
    ("M9", "map_returns_the_base", "error"),
    ("G1", "delivery_pushes_a_token", "error"),
    ("G2", "handler_is_entered_as_a_call", "error"),
    ("G3", "frame_has_its_layout", "error"),
    ("G4", "sigreturn_restores_or_kills", "error"),
    ("G5", "frame_holds_no_landing_pad", "error"),
    ("V1", "stack_area_is_private_anonymous", "error"),
    ("V2", "guard_page_below", "error"),
    ("V3", "only_three_calls_make_one", "error"),
    ("V4", "mprotect_keeps_shadow_stack", "error"),
    ("V5", "fork_copies_on_write", "error"),
    ("V6", "calls_cannot_write_one", "error"),
    ("V7", "pages_are_allocated_on_demand", "error"),
    ("F1", "pop_mismatch_is_cperr", "error"),
    ("F2", "missing_pad_is_cperr", "error"),
    ("F3", "stores_to_shadow_stacks_fault", "error"),
    ("F4", "loads_from_shadow_stacks_pass", "error"),
    ("F5", "shadow_operation_needs_a_shadow_stack", "error"),
    ("F6", "page_fault_reports_the_data_address", "error"),
    ("F7", "overflow_hits_the_guard", "error"),
    ("F8", "underflow_reads_what_lies_above", "error"),
    ("T1", "regset_reads_and_sets_ssp", "error"),
    ("H1", "hwprobe_reports_both_extensions", "error"),
    ("N1", "elf_note_enables_nothing", "error"),
    ("I1", "pop_finds_last_write", "error"),
    ("I2", "ssp_moves_by_rule", "error"),
    ("I3", "one_pusher_a_stack", "error"),
    ("I4", "no_use_after_release", "error"),
    ("Z1", "push_stores_below_ssp", "error"),
    ("Z2", "pop_compares_then_moves", "error"),
    ("Z3", "reads_return_ssp", "error"),
    ("Z4", "writes_set_ssp", "error"),
    ("Z5", "swap_returns_the_old_word", "error"),
    ("Z6", "pads_match_their_label", "error"),
    ("Z7", "status_governs_instructions", "error"),
    ("Z8", "page_decides_fault", "error"),
    ("Z9", "event_is_its_instruction", "error"),
    ("Z10", "indirect_jumps_land_on_pads", "error"),
    ("R1", "one_order_of_events", "error"),
    ("R2", "during_names_its_event", "error"),
    ("R3", "calls_are_whole", "error"),
    ("R4", "clones_pair_with_calls", "error"),
    ("R5", "tasks_run_while_alive", "error"),
    ("R6", "switches_follow_one_another", "error"),
    ("R7", "flow_runs_known_code", "error"),
    ("R8", "references_resolve", "error"),
    ("R9", "kernel_stores_where_mapped", "error"),
    ("R10", "output_is_what_calls_wrote", "error"),
    ("R11", "faults_are_consistent", "error"),
    ("R12", "lifetimes_agree", "error"),
)


def rule_of(module: ModuleType, id: str, slug: str, severity: str) -> Rule:
    """The rule that a module states."""
    doc = (module.__doc__ or "").strip()
    return Rule(
        id=id,
        slug=slug,
        severity=severity,
        doc=doc,
        source=_source(doc),
        needs=module.NEEDS,
        also=getattr(module, "ALSO", ()),
        applies=module.APPLIES,
        rests_on=getattr(module, "RESTS_ON", ()),
        gathers=getattr(module, "GATHERS", ()),
        instances=module.check,
    )


def _load(id: str, name: str, severity: str) -> Rule:
    module = import_module(f"shstk.replay.rules.{name}")
    return rule_of(module, id, name.replace("_", "-"), severity)


def _source(doc: str) -> str:
    """The rule's first source, on one line."""
    text = doc.partition("\n## Sources\n")[2].strip()
    return " ".join(text.split("\n\n")[0].split())


class _Rules(Mapping[str, Rule]):
    """The rules by id. One is loaded when it is asked for: most commands need none of them."""

    def __init__(self) -> None:
        self._lines = {line[0]: line for line in CATALOGUE}
        self._loaded: dict[str, Rule] = {}

    def __getitem__(self, id: str) -> Rule:
        if id not in self._loaded:
            self._loaded[id] = _load(*self._lines[id])
        return self._loaded[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


RULES: Final = _Rules()
_IDS: Final = {name.replace("_", "-"): id for id, name, _ in CATALOGUE}


def named(slug: str) -> Rule:
    """The rule with this slug. KeyError if there is none."""
    return RULES[_IDS[slug]]
