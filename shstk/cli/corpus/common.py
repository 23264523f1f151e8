"""Options that several commands of `shstk corpus` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shstk.cli.common import Size
from shstk.cli.terminal import Status

if TYPE_CHECKING:
    from shstk.corpus.run import Keeping, Progress

F = TypeVar("F", bound=Callable[..., Any])

corpus_argument = click.argument("corpus", type=click.Path(path_type=Path), metavar="CORPUS.toml")
store_argument = click.argument("store", metavar="STORE")
store_option = click.option(
    "-o",
    "--store",
    metavar="STORE",
    help="Where the results are [default: CORPUS.store, beside CORPUS.toml].",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    default=lambda: os.cpu_count() or 1,
    show_default="processors",
    help="Cells at a time, each in a process.",
)
_KEEPING = (
    click.option(
        "--keep",
        type=click.Choice(["findings", "all", "none"]),
        default="none",
        show_default=True,
        help="Which runs to keep. Every other one can be executed again.",
    ),
    click.option(
        "--keep-size",
        type=Size(),
        default="1G",
        show_default=True,
        metavar="SIZE",
        help="Keep no more than SIZE of them.",
    ),
)


def keep_options(command: F) -> F:
    """--keep and --keep-size."""
    for option in reversed(_KEEPING):
        command = option(command)
    return command


def keeping(keep: str, keep_size: int) -> Keeping:
    from shstk.corpus.run import Keeping

    return Keeping(keep, keep_size)


def store_of(corpus: Path, store: str | None) -> str:
    return store or str(corpus.with_suffix(".store"))


class Shown:
    """Progress of a campaign, on a terminal."""

    def __init__(self) -> None:
        self._status = Status()

    def __call__(self, progress: Progress) -> None:
        self._status.show(
            f"{progress.done} of {progress.total} cells, {progress.found} with findings,"
            f" {progress.failed} failed"
        )

    def clear(self) -> None:
        self._status.clear()
