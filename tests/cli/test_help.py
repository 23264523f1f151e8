"""What `--help` says of each command: its words and options. How click lays them out is click's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import cleandoc

import click
import pytest

from shstk.__main__ import run
from shstk.cli import COMMANDS, Commands, cli
from shstk.cli.corpus import PARTS
from shstk.cli.import_ import SOURCES


def parameter(p: click.Parameter) -> tuple[str, ...]:
    """Its names, what it takes, what it does, its default."""
    choices = "|".join(p.type.choices) if isinstance(p.type, click.Choice) else ""
    takes = p.metavar or choices
    if isinstance(p, click.Option):
        default = f"default: {p.default}" if p.show_default is True else p.show_default
        return (*p.opts, takes, p.help or "", default or "")
    return (takes or p.human_readable_name,)


def content(command: click.Command) -> Iterator[tuple[str, ...]]:
    """A paragraph or a parameter each, in the pieces that layout keeps whole."""
    text = cleandoc(command.help or "").replace("\b", "")  # click's mark: do not wrap
    yield from ((paragraph,) for paragraph in text.split("\n\n"))
    if isinstance(command, Commands):
        yield from command.names.items()
    yield from map(parameter, command.params)
    yield (command.epilog or "",)


def squeezed(text: str) -> str:
    return "".join(text.split())


NESTED = [*(f"import {source}" for source in SOURCES), *(f"corpus {part}" for part in PARTS)]


@pytest.mark.parametrize("name", ["", *COMMANDS, *NESTED])
def test_help(
    name: str, capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]
) -> None:
    command: click.Command | None = cli
    for word in name.split():
        assert isinstance(command, Commands)
        command = command.get_command(click.Context(command), word)
    assert command
    assert run([*name.split(), "--help"]) == 0
    shown = squeezed(capfd.readouterr().out)
    rows = [[piece for piece in row if piece] for row in content(command)]
    assert [p for row in rows for p in row if squeezed(p) not in shown] == []
    lines = [" ".join(" ".join(row).split()) for row in rows if row]
    snapshot("-".join(["help", *name.split()]), "\n".join(lines) + "\n")
