from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.import_.common import run_options
from shstk.cli.terminal import show_warnings


@click.command()
@click.argument("events", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--program",
    metavar="NAME",
    help="The program's name or path in the guest (default: the first that a task executes).",
)
@click.option(
    "--exe", type=click.Path(path_type=Path), metavar="ELF", help="Its file, to name addresses."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The guest's file tree, to name addresses in its libraries.",
)
def command(
    events: Path,
    output: Path,
    force: bool,
    kernel: str | None,
    program: str | None,
    exe: Path | None,
    root: Path | None,
) -> int:
    """Make a run of EVENTS that the QEMU plugin wrote (`shstk qemu-plugin`). They may be packed by
    zstd, gzip or xz."""
    made = shstk.import_qemu(
        events, output, program=program, executable=exe, root=root, kernel=kernel, force=force
    )
    show_warnings(made.warnings)
    click.echo(
        f"shstk: {made.ending}, {made.icount} instructions, imported as {made.path}", err=True
    )
    return 0
