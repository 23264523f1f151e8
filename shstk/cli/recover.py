from __future__ import annotations

from pathlib import Path

import click

from shstk.schemas import seq as positions


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUN.partial")
@click.option("--force", is_flag=True, help="Overwrite an existing run.")
def command(directory: Path, force: bool) -> None:
    """Salvage a recording that was cut off (a kill -9, a full disk).

    Seals the intact part as a run. Rules about a run's end are then not evaluated.
    """
    from shstk.replay.run import Run
    from shstk.tracer.recording.rundir import recover

    run = Run.open(recover(directory, force))
    rows = sum(entry.rows for entry in run.manifest.tables.values())
    upto = run.manifest.recovered_up_to
    what = "all of it" if upto is None else f"complete up to {positions.show(upto)}"
    click.echo(f"recovered {run.path}: {rows} rows, {what}", err=True)
