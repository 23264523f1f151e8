"""The options of every source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from shstk.cli.common import Kernel

F = TypeVar("F", bound=Callable[..., Any])


def output_options(command: F) -> F:
    """-o and --force."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_options(command: F) -> F:
    """-o, --force and --kernel."""
    return output_options(_KERNEL(command))


_OPTIONS = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        metavar="RUN",
        help="The run.",
    ),
    click.option("--force", is_flag=True, help="Replace an existing run."),
)
_KERNEL = click.option(
    "-k",
    "--kernel",
    type=Kernel(),
    help="The revision whose rules are expected (default: the release in the kernel's banner).",
)
