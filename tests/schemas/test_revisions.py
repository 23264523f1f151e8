"""The rows of revisions: what a run's kernel is, and who may ask for a revision by name."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from shstk.schemas.revisions import REVISIONS, SWITCHES, Revision, first_with, recorded, resolve

ROOT = Path(__file__).parents[2]
MODEL_AND_RULES = sorted(
    file for folder in ("tracer", "replay") for file in (ROOT / folder).rglob("*.py")
)


def test_the_model_and_the_rules_ask_switches_never_a_revisions_name() -> None:
    """A name that is compared would leave `--kernel 7.2,SWITCH=VALUE` half turned."""
    assert len(MODEL_AND_RULES) > 200
    named = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.value}"
        for file in MODEL_AND_RULES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in REVISIONS
    ]
    assert named == []


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_is_asked_by_the_model_and_by_the_rules(switch: str) -> None:
    """Each says for itself what a value does; the model asks the row, the rules the law."""
    asked = {"tracer": rf'row\["{switch}"\]', "replay": rf'\["{switch}"\]|\.{switch}\b'}
    for folder, how in asked.items():
        files = [file for file in MODEL_AND_RULES if file.is_relative_to(ROOT / folder)]
        assert any(re.search(how, file.read_text()) for file in files), folder


@pytest.mark.parametrize("row", REVISIONS.values(), ids=REVISIONS)
def test_every_row_has_a_value_and_a_source_for_every_switch(row: Revision) -> None:
    assert list(row.settings) == list(SWITCHES)
    for name, setting in row.settings.items():
        assert setting.source, name
        assert setting.value in (SWITCHES[name].values or (setting.value,)), name


def test_a_turned_row_knows_the_row_it_was_turned_from() -> None:
    row = resolve("7.2,release_hook=exit_thread")
    assert row["release_hook"] == "exit_thread"
    assert row.unturned is REVISIONS["7.2"]
    assert row.release == "7.2.13"


def test_first_with() -> None:
    assert first_with("release_hook", "deactivate_mm") == "v7"
    assert first_with("clone_gate", "inverted") == "v1"


def test_a_switch_newer_than_a_run_has_the_value_of_the_revisions_row() -> None:
    switches = resolve("v6,clone_gate=inverted").settings
    older = {name: s for name, s in switches.items() if name not in ("cfi_prctl", "nousercfi")}
    assert recorded("v6,clone_gate=inverted", older) == replace(
        resolve("v6"), name="v6,clone_gate=inverted", settings=switches
    )


def test_a_revision_that_this_version_does_not_know_is_as_it_was_recorded() -> None:
    row = recorded("7.9,exec_lock=kept", resolve("7.3,exec_lock=kept").settings)
    assert (row.name, row["exec_lock"], row.release) == (
        "7.9,exec_lock=kept",
        "kept",
        "6.12.0-7.9",
    )
    assert row.unturned is row
