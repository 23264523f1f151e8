"""`shstk corpus COMMAND`: one file for each command, loaded when it is called."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import click

from shstk.cli import Commands

# name -> help text; the command is `command` in shstk/cli/corpus/<name>.py.
PARTS: Final = {
    "plan": "List the cells of a campaign, and which of them are done.",
    "run": "Execute and judge the cells that are not done yet.",
    "report": "Tell a campaign's findings by cause; as a page with --html.",
    "query": "Run SQL over all cells and findings.",
    "diff": "Compare two campaigns: new, gone and moved findings.",
    "check": "Judge a campaign's runs anew: other rules, another revision.",
    "merge": "Join campaigns, such as those of several machines.",
    "reduce": "Find the least that still shows a cause: seed, arguments, input, switches.",
}


class Parts(Commands):
    names: ClassVar = PARTS
    package: ClassVar = "shstk.cli.corpus"

    def invoke(self, ctx: click.Context) -> Any:
        """A store's files may be damaged, and its place may not answer: any scan finds out."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if type(error).__module__.split(".")[0] in ("click", "shstk"):
                raise
            from shstk.corpus.places import unreadable

            raise unreadable(error) or error from None


@click.command(cls=Parts)
def command() -> None:
    """Judge many programs under many kernels and seeds, on one machine or on several.

    CORPUS.toml says what is run (docs/corpus.md). The results are in a directory, STORE; what is
    in it and still valid is not executed again.
    """
