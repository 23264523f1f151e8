from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    bash: eval "$(shstk completion bash)"
    """
    from shstk.cli import cli

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "shstk", "_SHSTK_COMPLETE").source())
