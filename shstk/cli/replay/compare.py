"""Neither --kernel nor --trace: execute the run again and compare it with its record."""

from __future__ import annotations

import json
from pathlib import Path

import click

from shstk.cli.common import show_plugins
from shstk.cli.terminal import Interrupt, Progress, show_warnings
from shstk.plugins.loading import load
from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.rerun.report import as_json, text
from shstk.schemas import seq as positions
from shstk.schemas.errors import Exit
from shstk.schemas.version import VERSION


def compare(
    run: Run, path: Path, until: int | None, plugins: tuple[str, ...], tier: str, format: str
) -> int:
    if until is not None:
        run.must_reach(until, f"--until {positions.show(until)}")
    progress = Progress(run.manifest.icount)
    result = replay(
        run,
        until=until,
        plugins=[load(plugin) for plugin in plugins],
        interrupted=Interrupt(),
        on_progress=progress,
        tier=tier,
    )
    progress.clear()
    if format == "json":
        click.echo(json.dumps(as_json(result), indent=1))
    else:
        click.echo(text(path, result), nl=False)
    show_plugins(result.plugins)
    if result.disagreement and run.manifest.tool_version != VERSION:
        recorded_by = run.manifest.tool_version
        show_warnings([f"the run was recorded by shstk {recorded_by}; this is {VERSION}"])
    return Exit.DISAGREES if result.disagreement else Exit.OK
