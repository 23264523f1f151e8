from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Print the probes for a kernel with shadow stacks, and the five commands that record with
    them.

    It works on a board as in a virtual machine: root and tracefs suffice.
    """
    from shstk.tracer.importers.ftrace.probes import printed

    click.echo(printed(), nl=False)
