"""Options that several commands of `shstk corpus` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shstk.cli.common import Size
from shstk.cli.terminal import Status, as_ctrl_c, show_warnings
from shstk.schemas.errors import UsageError

if TYPE_CHECKING:
    from shstk.corpus.campaign import HostLimits
    from shstk.corpus.run import Keeping, Progress, Work

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
ray_option = click.option(
    "--ray",
    metavar="ADDRESS",
    help="Execute the cells on the Ray cluster whose head is ADDRESS (HOST:PORT); auto: the cluster"
    " of which this machine is a part. All its machines need this build of shstk.",
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


def work_of(ctx: click.Context, ray: str | None, jobs: int, limits: HostLimits) -> Work:
    """What executes the cells: this machine, or a cluster. Raises UsageError, and ShstkError if
    there is no such cluster."""
    if ray is None:
        from shstk.corpus.run import on_this_machine

        as_ctrl_c()
        return on_this_machine(jobs, limits)
    if ctx.get_parameter_source("jobs") is click.core.ParameterSource.COMMANDLINE:
        raise UsageError(
            "--jobs is for this machine", "a cluster runs as many as it has processors"
        )
    from shstk.corpus.cluster import on_cluster

    work = on_cluster(ray, limits, lambda text: show_warnings([text]))
    as_ctrl_c()  # Ray has a handler of its own
    return work


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
