from __future__ import annotations

import json
from pathlib import Path

import click

from shstk.cli.common import format_option
from shstk.schemas.errors import BadRun, Exit


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@format_option("text", "json")
def command(runs: tuple[Path, ...], format: str) -> int:
    """Verify that RUNs are whole: every file is there, and is what was recorded.

    Names everything that is wrong, where other commands stop at the first. --format json prints one
    object for each run: run, ok, faults (each with file, what, hint). Exit code 3 if a run is
    damaged.
    """
    found = {run: _faults(run) for run in runs}
    for run, faults in found.items():
        if format == "json":
            told = [{"file": f, "what": fault.what, "hint": fault.hint} for f, fault in faults]
            click.echo(json.dumps({"run": str(run), "ok": not faults, "faults": told}))
            continue
        for _, fault in faults:
            click.echo(fault.what)
        click.echo(f"{run}: {f'{len(faults)} faults' if faults else 'ok'}")
    return Exit.INPUT if any(found.values()) else Exit.OK


def _faults(run: Path) -> list[tuple[str, BadRun]]:
    """Each with the file's name in the run."""
    from shstk.schemas.door import faults, read_manifest
    from shstk.schemas.manifest import NAME

    try:
        manifest = read_manifest(run)
    except BadRun as fault:
        return [(NAME, fault)]
    found = faults(run, manifest, decode=True)
    return [(str(fault.where.relative_to(run)), fault) for fault in found]
