from __future__ import annotations

from typing import Any

import click

import shstk
from shstk.cli.common import plugin_option, show_plugins
from shstk.cli.confined import confine_guest
from shstk.cli.guest import guest_options, settings, verbose_option
from shstk.cli.terminal import Interrupt, PassThrough, Progress, show_tier, show_warnings
from shstk.schemas.errors import Exit


@click.command(context_settings={"allow_interspersed_args": False})
@plugin_option
@guest_options()
@verbose_option
def command(
    program: str, args: tuple[str, ...], plugins: tuple[str, ...], verbose: bool, **options: Any
) -> int:
    """Run PROGRAM as `record` does, but record nothing.

    The exit code is the program's, or 128 + signal if a signal killed it.
    """
    guest = settings(options)
    confine_guest(guest, plugins, verbose)
    if verbose:
        show_tier(options["tier"])
    passing, progress = PassThrough(), Progress()
    result = shstk.execute(
        program,
        *args,
        plugins=plugins,
        **guest,
        on_output=passing,
        on_progress=progress,
        interrupted=Interrupt(),
    )
    progress.clear()
    show_warnings(result.warnings)
    show_plugins(result.plugins)
    if result.exit_code is None:
        click.echo(f"shstk: {result.describe()}", err=True)
        return Exit.INTERRUPTED if result.ending == "interrupted" else Exit.INPUT
    passing.check()
    return result.exit_code
