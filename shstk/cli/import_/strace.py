from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.import_.common import run_options
from shstk.cli.terminal import show_warnings
from shstk.schemas.extensions import CPUS


@click.command()
@click.argument("text", nargs=-1, required=True, type=click.Path(path_type=Path))
@run_options
@click.option(
    "--cpu",
    type=click.Choice(CPUS),
    help="The machine's ISA, where no call tells whether it has Zicfiss and Zicfilp.",
)
def command(
    text: tuple[Path, ...], output: Path, force: bool, kernel: str | None, cpu: str | None
) -> int:
    """Make a run of TEXT: what `strace -f -o TEXT PROGRAM` wrote, or the files of strace -ff -ttt.

    strace may have had any other options, but the text must begin with the program's exec. It has
    calls only.
    """
    made = shstk.import_strace(text, output, kernel=kernel, cpu=cpu, force=force)
    show_warnings(made.warnings)
    click.echo(f"shstk: {made.program}, {made.calls} calls, imported as {made.path}", err=True)
    return 0
