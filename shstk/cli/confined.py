"""What each kind of command gives up, and what -v says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from shstk.cli.process import is_ours
from shstk.confined import confine, scratch
from shstk.tracer.options import Settings


def confine_guest(
    guest: Settings, plugins: Iterable[str], verbose: bool, run: Path | None = None
) -> None:
    """Restrict this process, which is about to run a guest. run: the directory that will
    have the record; None: nothing is recorded."""
    _confine([run.parent if run is not None else None, *_written_back(guest)], plugins, verbose)


def confine_sweep(
    guest: Settings, plugins: Iterable[str], verbose: bool, *outputs: Path | None
) -> None:
    """Restrict this process and those that it starts, which record a guest many times."""
    writable = [*outputs, *_written_back(guest), *scratch()]
    _confine(writable, plugins, verbose, programs=True)


def confine_rerun(
    plugins: Iterable[str], verbose: bool, output: Path | None = None, tcp: bool = False
) -> None:
    """Restrict this process, which is about to execute a run again. output: what it will write.
    tcp: it listens to a debugger."""
    _confine([*_beside(output), *scratch()], plugins, verbose, tcp=tcp)


def confine_reading(
    *outputs: Path | None, own_code: Iterable[object] = (), verbose: bool = False
) -> None:
    """Restrict this process, which reads a run and may execute it again. It may start a pager."""
    writable = [place for output in outputs for place in _beside(output)]
    _confine([*writable, *scratch()], own_code, verbose, programs=True)


def _confine(
    writable: Iterable[Path | None],
    own_code: Iterable[object],
    verbose: bool,
    tcp: bool = False,
    programs: bool = False,
) -> None:
    """own_code: plugins and rules are the user's and may write anywhere: nothing is restricted."""
    if not is_ours():
        told = "not restricted (it runs in a process of somebody else)"
    elif any(own_code):
        told = "not restricted (plugins and rules of your own may write anywhere)"
    else:
        told = confine(writable, tcp, programs)
    if verbose:
        click.echo(f"shstk: this process is {told}", err=True)


def _beside(output: Path | None) -> Iterator[Path]:
    """Files get their names when they are whole: the folder is written, too."""
    if output is not None:
        yield output.parent


def _written_back(guest: Settings) -> Iterator[Path]:
    """What the guest's own options let it change."""
    if guest["overlay"] is not None:
        yield Path(guest["overlay"])
    for host, _, writable in guest["binds"]:
        if writable:
            yield Path(host) if Path(host).is_dir() else Path(host).parent
