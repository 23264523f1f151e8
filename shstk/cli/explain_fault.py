from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from shstk import render
from shstk.cli.common import Seq, format_option, open_run, run_argument
from shstk.cli.confined import confine_reading

_SHOWN: Final = 20  # faults in full


@click.command()
@run_argument
@click.argument("seq", type=Seq(), required=False)
@click.option("--all", "every", is_flag=True, help="Every fault, including caught ones.")
@format_option("text", "json")
def command(run: Path, seq: int | None, every: bool, format: str) -> None:
    """Why a task of RUN faulted: what was expected, who wrote it, the likely cause.

    Explains a pop that found a different return address, a shadow stack that is full, empty, freed
    or off, a store to one, a missing landing pad, a signal frame that could not be restored, or an
    ordinary fault. Without SEQ, the fault that ended the run.
    """
    from shstk.replay.explain import chosen, explanations
    from shstk.replay.explain.text import as_json, text

    confine_reading()
    opened = open_run(run)
    faults = chosen(opened, seq, every=every)
    if format == "json":
        render.write_json([as_json(e) for e in explanations(opened, faults)])
        return
    if not faults:
        click.echo(f"{opened.name}: no fault" + ("" if every else " ended a task"))
    for number, explanation in enumerate(explanations(opened, faults[:_SHOWN])):
        click.echo("\n" * (number > 0) + text(explanation), nl=False)
    if (more := len(faults) - _SHOWN) > 0:
        click.echo(f"\n… {more} more: shstk query {run} 'SELECT * FROM fault_causes'")
