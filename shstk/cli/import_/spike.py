from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.import_.common import output_options
from shstk.cli.terminal import show_warnings


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@output_options
@click.option(
    "--exe", type=click.Path(path_type=Path), metavar="ELF", help="Its file, to name addresses."
)
def command(log: Path, output: Path, force: bool, exe: Path | None) -> int:
    """Make a run of LOG: what `spike --log-commits --log=LOG` wrote, with -l or without. It may be
    packed by zstd, gzip or xz.

    Each hart is a task, and each satp an address space. With -l the log has the instructions that
    trapped, too.
    """
    made = shstk.import_spike(log, output, executable=exe, force=force)
    show_warnings(made.warnings)
    click.echo(
        f"shstk: {made.instructions} instructions, {made.events} of shadow stacks and landing"
        f" pads, imported as {made.path}",
        err=True,
    )
    return 0
