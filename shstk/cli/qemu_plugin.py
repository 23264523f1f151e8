from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

import shstk
from shstk.cli.realkernel import kernel_files, kernel_options


@click.command
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the plugin and its table are written.",
)
@kernel_options
def command(image: Path, output: Path, **options: Any) -> int:
    """Write the QEMU plugin that records a real kernel, and its table for IMAGE.

    For a machine of your own: add the printed words to the command line of its QEMU, and -icount
    shift=2,sleep=off if the recording is to be repeatable. The kernel must be booted with nokaslr.
    `shstk import qemu` makes a run of the events.
    """
    files = shstk.qemu_plugin(kernel_files(image, options), output, options["qemu"])
    for need, why in files.blind.items():
        click.echo(f"shstk: {need} can't be observed: {why}", err=True)
    click.echo(shlex.join(files.words))
    click.echo(f"shstk import qemu {shlex.quote(str(files.events))} -o RUN", err=True)
    return 0
