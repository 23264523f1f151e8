from __future__ import annotations

from pathlib import Path

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.cli.corpus.common import corpus_argument, store_of, store_option

_COLUMNS = ("key", "command", "kernel", "cpu", "quantum", "seed", "state")


@click.command()
@corpus_argument
@store_option
@format_option("text", "json", "csv")
def command(corpus: Path, store: str | None, format: str) -> None:
    """List the cells of CORPUS.toml: every program under every kernel, CPU, quantum and seed.

    A cell's key is a digest of all that its result depends on: the program and its files, the
    kernel's switches, the options, and the build of shstk. `state` is its outcome if STORE has it,
    or `to do`.
    """
    from shstk.corpus.campaign import load
    from shstk.corpus.run import keyed
    from shstk.corpus.store import Store

    done = Store(store_of(corpus, store)).done()
    rows = [
        [
            key,
            cell.subject.command,
            cell.kernel,
            cell.cpu,
            cell.slices,
            cell.seed,
            done.get(key, "to do"),
        ]
        for key, cell in keyed(load(corpus).cells).items()
    ]
    render.write_rows(_COLUMNS, rows, format)
    left = sum(row[-1] == "to do" for row in rows)
    click.echo(f"{len(rows)} cells, {left} to do", err=True)
