"""check: which rules, by which revision, under which expectation, and what it cannot tell."""

from __future__ import annotations

import polars as pl
import pytest
from listings import LEAK, threaded, without

from shstk.replay.check import Report, check
from shstk.replay.matrix import matrix
from shstk.replay.report import render
from shstk.replay.run import Run
from shstk.schemas.errors import UsageError
from shstk.schemas.tables import FINDINGS, TABLES


def outcome(report: Report, rule: str) -> tuple[str, int | str]:
    """How a rule ended, and how many instances it checked or why none."""
    row = report.findings.filter(pl.col("rule") == rule).row(0, named=True)
    return row["outcome"], row["checked"] or row["why"]


def test_a_run_without_fault_is_clean_and_says_what_it_checked() -> None:
    report = check(threaded())
    assert report.clean
    assert outcome(report, "X1") == ("satisfied", 2)
    assert outcome(report, "A10")[0] == "not evaluated"


def test_findings_have_their_schema_and_a_row_for_every_rule() -> None:
    from shstk.replay.rules import RULES

    findings = check(threaded(LEAK)).findings
    assert tuple(findings.columns) == FINDINGS.names
    assert findings["rule"].unique(maintain_order=True).to_list() == list(RULES)
    assert findings["seq"].dtype == pl.UInt64


def test_a_leak_is_found_at_the_exit_and_says_whose_and_who_should_have() -> None:
    (finding,) = check(threaded(LEAK)).violated.iter_rows(named=True)
    assert (finding["rule"], finding["tid"], finding["addr"]) == ("X1", 2, 0x7FFF_E000_0000)
    assert finding["seq"] == 50 * 2**20 + 2
    assert finding["evidence"] == [30 * 2**20 + 1, 50 * 2**20 + 2, 50 * 2**20 + 3, 50 * 2**20 + 5]
    assert "task 1's clone" in finding["note"]
    assert "should have been unmapped by task 2's exit" in finding["note"]


def test_select_and_ignore_take_ids_and_names() -> None:
    run = threaded(LEAK)
    assert check(run, select=("x1",)).findings["rule"].to_list() == ["X1"]
    assert check(run, select=("exit-releases-once",)).violated.height == 1
    assert check(run, ignore=("X1",)).clean


@pytest.mark.parametrize("words", [{"select": ("X99",)}, {"ignore": ("nope",)}, {"expect": "hope"}])
def test_unknown_names_are_refused(words: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check(threaded(), **words)  # type: ignore[arg-type]


def test_as_judges_by_another_revision() -> None:
    run = threaded()
    assert check(run, as_="7.1").clean
    assert check(run, as_="7.0").violated["rule"].to_list() == ["A6", "P6"]  # the size was 8 MiB
    assert check(run, as_="7.0,default_size=2:2G").clean


def test_what_rests_on_an_unconfirmed_switch_carries_its_doubt() -> None:
    report = check(threaded(), as_="7.4,release_hook=deactivate_mm,default_size=2:2G")
    assert set(report.findings["kernel"]) == {"7.4,release_hook=deactivate_mm,default_size=2:2G"}
    doubtful = dict(report.findings.select("rule", "doubtful").iter_rows())
    assert doubtful["A2"]  # clone_gate of 7.4
    assert not doubtful["X1"]  # a switch that was turned is not in doubt
    words = {line.rule.id: line.words() for line in matrix({"": {"7.4": report}}, all_rules=True)}
    assert words["A6"] == ["A6", "thread-stack-size", "ok (1) (?)", ""]
    assert words["X1"] == ["X1", "exit-releases-once", "ok (2)", ""]


def test_without_cfi_the_rules_about_it_are_not_evaluated() -> None:
    report = check(without(threaded(), "cfi", traced=("flow",)))
    for rule in ("I1", "I2", "I3", "I4"):
        assert outcome(report, rule) == ("not evaluated", "the run has no cfi table")
    assert report.clean


def test_a_program_without_its_mappings_cannot_be_told_to_leak() -> None:
    run = threaded(
        "25 t1 module 1 /prog\n"
        "30 t1 clone(THREAD) = 2 { t2 created ssp=S2.top }\n   t2 first_user\n```"
    )
    report = check(without(run, "mappings"))
    assert report.clean
    for rule in ("A5", "P6", "X1"):
        assert outcome(report, rule) == ("not evaluated", "the run has no mappings table")


def test_tasks_whose_clones_are_not_told_are_not_judged() -> None:
    report = check(without(threaded(), "clones"))
    assert report.clean
    assert outcome(report, "X1") == ("not evaluated", "the run has no clones table")


@pytest.mark.parametrize("ending", ["deadlock", "limit", "timeout", "interrupted", "recovered"])
def test_a_run_that_was_cut_short_says_so_of_rules_about_the_end(ending: str) -> None:
    report = check(threaded("```", extra=f"ending {ending}"))
    what, why = outcome(report, "X1")
    assert what == "not evaluated"
    assert str(why).endswith(f"(the run was cut short: {ending})")
    last = render([report], "text").splitlines()[-1]
    assert last.startswith(f"listing: cut short: {ending}; no findings; ")


SATISFIED = {
    "outcome": "satisfied",
    "violated": 0,
    "checked": 2,
    "why": None,
    "unseen": (),
    "doubtful": False,
}


def test_the_matrix_counts_findings_by_kernel() -> None:
    reports = {"good": check(threaded()), "leak": check(threaded(LEAK))}
    (line,) = matrix({"prog": reports})
    assert line.words() == ["X1", "exit-releases-once", "ok (2)", "1", "appears leak"]
    assert line.as_json() == {
        "program": "prog",
        "rule": "X1",
        "slug": "exit-releases-once",
        "kernels": {
            "good": SATISFIED,
            "leak": SATISFIED | {"outcome": "violated", "violated": 1},
        },
        "changes": [{"kernel": "leak", "step": "appears"}],
    }


def test_the_matrix_says_where_a_finding_appears_and_goes() -> None:
    good, leak = check(threaded()), check(threaded(LEAK))
    reports = {"v1": leak, "v2": good, "v3": good, "v4": leak, "v5": leak, "v6": good}
    (line,) = matrix({"": reports})
    assert line.words()[-1] == "in v1, gone v2, appears v4, gone v6"


def test_the_matrix_of_several_programs() -> None:
    good, leak = check(threaded()), check(threaded(LEAK))
    (line,) = matrix({"one": {"v6": leak, "7.2": good}, "other": {"v6": good, "7.2": good}})
    assert line.program == "one"
    assert list(line.results) == ["v6", "7.2"]
    every = matrix({"one": {"7.2": good}, "other": {"7.2": good}}, all_rules=True)
    assert {line.program for line in every} == {"one", "other"}


NOT_TOLD = [
    ("syscalls", "tid"),
    ("syscalls", "seq_end"),
    ("syscalls", "ret"),
    ("clones", "seq_end"),
    ("mappings", "tid"),
    ("mappings", "start"),
    ("task_events", "tid"),
    ("task_events", "mm"),
    ("task_events", "ssp"),
    ("clones", "child_tid"),
    ("cfi", "tid"),
    ("cfi", "mm"),
    ("syscalls", "ssp_entry"),
    ("syscalls", "ssp_exit"),
]


@pytest.mark.parametrize(("table", "column"), NOT_TOLD)
@pytest.mark.parametrize("expect", ["intent", "revision"])
def test_what_a_source_cannot_know_is_no_violation(table: str, column: str, expect: str) -> None:
    import pyarrow as pa

    run = threaded()
    rows = run.arrow(table)
    index = rows.schema.get_field_index(column)
    field = rows.schema.field(index)
    blank = rows.set_column(index, field, pa.nulls(rows.num_rows, field.type))
    tables = {name: run.arrow(name) for name in TABLES} | {table: blank}
    report = check(Run.from_tables(run.manifest, tables), expect=expect)
    assert report.clean, report.violated.select("rule", "note").rows()
