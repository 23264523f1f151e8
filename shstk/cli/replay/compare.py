"""Neither --kernel nor --trace: execute the run again and compare it with its record."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from shstk.cli.common import show_plugins
from shstk.cli.terminal import Interrupt, Progress, show_warnings
from shstk.plugins.loading import load
from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.rerun.report import as_json, text
from shstk.schemas import seq as positions
from shstk.schemas.errors import Exit, ShstkError
from shstk.schemas.version import VERSION


class ReplayTimeout(ShstkError):
    """The second execution took longer than --timeout."""


def compare(
    run: Run,
    path: Path,
    until: int | None,
    timeout: float | None,
    plugins: tuple[str, ...],
    tier: str,
    format: str,
) -> int:
    if until is not None:
        run.must_reach(until, f"--until {positions.show(until)}")
    progress, interrupt = Progress(run.manifest.icount), Interrupt()
    deadline = time.monotonic() + timeout if timeout is not None else float("inf")
    try:
        result = replay(
            run,
            until=until,
            plugins=[load(plugin) for plugin in plugins],
            interrupted=lambda: interrupt() or time.monotonic() > deadline,
            on_progress=progress,
            tier=tier,
        )
    except KeyboardInterrupt:
        progress.clear()
        if interrupt():
            raise
        raise ReplayTimeout(
            f"{path}: not compared to its end within --timeout {timeout:g} s",
            "until then nothing disagreed; give it more time, or a part with --until",
        ) from None
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
