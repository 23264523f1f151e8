from __future__ import annotations

import click

from shstk import render
from shstk.cli.common import format_option
from shstk.schemas.errors import Exit


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@format_option("text", "json")
def command(a: str, b: str, format: str) -> int:
    """Which findings does campaign B have that A has not, and the other way round?

    Findings are grouped by cause: the rule, and the words without their numbers. Per program,
    kernel and CPU a cause is new, gone, or moved to another function or task; the seeds may be
    others. A cause counts as gone only if every cell of B finished and its rule was evaluated.
    Programs that end in another way are listed too. Exit code 1 if a finding is new.
    """
    from shstk.corpus.compare import compare, text, to_json
    from shstk.corpus.store import Store

    told = to_json(compare(Store(a), Store(b)))
    if format == "json":
        render.write_json(told)
    else:
        click.echo("\n".join(text(told)))
    return Exit.FINDINGS if told["new"] else Exit.OK
