from __future__ import annotations

import click

from shstk import render
from shstk.cli.common import format_option


@click.command()
@format_option("text", "json", "csv")
def command(format: str) -> None:
    """List the system calls of the kernel model, one row each.

    modelled: behaves as in Linux. simple: returns a constant, or nearly so. refused: always fails,
    although Linux may not. why: what is left out; a run that meets it has a warning with these
    words. Any other call returns -ENOSYS and adds a warning to the run.
    """
    from shstk.tracer.kernel.table import CALLS

    rows = [[nr, call.name, call.klass, call.why or None] for nr, call in sorted(CALLS.items())]
    render.write_rows(["nr", "name", "class", "why"], rows, format)
