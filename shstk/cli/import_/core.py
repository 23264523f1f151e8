from __future__ import annotations

from pathlib import Path

import click

import shstk
from shstk.cli.import_.common import run_options
from shstk.cli.terminal import show_warnings
from shstk.schemas.uapi import SIGNAL_NAMES


@click.command()
@click.argument("core", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--exe",
    type=click.Path(path_type=Path),
    metavar="ELF",
    help="The program's file (default: the file of its path below --root).",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="The file tree in which it ran, with its libraries; on the same machine: /.",
)
def command(
    core: Path,
    output: Path,
    force: bool,
    kernel: str | None,
    exe: Path | None,
    root: Path | None,
) -> int:
    """Make a run of CORE, the core dump of a riscv64 program. It may be packed by zstd, lz4, xz,
    gzip or bzip2.

    `shstk explain-fault` then compares its two call stacks word by word, and `shstk stacks` lists
    its shadow stacks. A core shows one moment: no rule is evaluated.
    """
    made = shstk.import_core(core, output, executable=exe, root=root, kernel=kernel, force=force)
    show_warnings(made.warnings)
    many = f"{made.threads} threads" if made.threads != 1 else "1 thread"
    died = f"died of {SIGNAL_NAMES.get(made.signo, made.signo)}" if made.signo else "was alive"
    click.echo(
        f"shstk: {made.program} (pid {made.pid}, {many}) {died}, imported as {made.path}",
        err=True,
    )
    return 0
