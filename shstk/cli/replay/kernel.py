"""--kernel: record the run's program under another revision."""

from __future__ import annotations

from pathlib import Path

import click

from shstk.cli.terminal import Interrupt, PassThrough, Progress, show_warnings
from shstk.replay.run import Run
from shstk.rerun.kernel import record_under
from shstk.schemas.errors import Exit


def record(run: Run, path: Path, kernel: str, output: Path | None, force: bool, tier: str) -> int:
    named = path if path.name else path.absolute()
    out = output or named.with_name(f"{named.name.removesuffix('.run')}.{kernel}.run")
    passing, progress = PassThrough(), Progress()
    result = record_under(
        run,
        kernel,
        out,
        force=force,
        on_output=passing,
        on_progress=progress,
        interrupted=Interrupt(),
        tier=tier,
    )
    progress.clear()
    show_warnings(result.warnings)
    click.echo(
        f"shstk: under {kernel}: {result.describe()}, {result.icount} instructions,"
        f" recorded in {result.path}\n  compare them with `shstk diff {path} {result.path}`",
        err=True,
    )
    passing.check()
    return Exit.OK
