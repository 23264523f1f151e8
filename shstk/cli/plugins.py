from __future__ import annotations

import inspect

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.plugins import SHIPPED


@click.command()
@click.argument("name", required=False)
@format_option("text", "json", "csv")
def command(name: str | None, format: str) -> None:
    """List the plugins that come with shstk; with NAME, print its documentation.

    NAME may be your own plugin, module:Class or file.py:Class. docs/plugins.md describes how to
    write one.
    """
    from shstk.plugins.loading import arguments, find

    if name is not None:
        click.echo(inspect.getdoc(find(name)) or f"{name} has no documentation")
        return
    rows = []
    for plugin in SHIPPED:
        cls = find(plugin)
        title = (inspect.getdoc(cls) or "").partition("\n")[0]
        rows.append([plugin, " ".join(f"{key}=" for key in arguments(cls)), title])
    render.write_rows(["name", "arguments", "what it does"], rows, format)
