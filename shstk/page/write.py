"""The page as text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from shstk.page.content import chapters, table
from shstk.page.picture import WIDTH
from shstk.replay.check import Report
from shstk.schemas.errors import UsageError
from shstk.schemas.version import VERSION

if TYPE_CHECKING:
    from shstk.replay.run import Run


def page(runs: Sequence[Run], reports: Sequence[Report]) -> str:
    """One HTML page, with everything it needs in it. Raises UsageError without the package
    jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise UsageError(
            "a report needs the package jinja2", "pip install 'shstk[report]'"
        ) from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (files("shstk") / "page" / "page.html.jinja").read_text(encoding="utf-8")
    told = chapters(runs, reports)
    return environment.from_string(source).render(
        chapters=told,
        lines=table(told),
        title=_title(told[0].run.name, len(told)),
        version=VERSION,
        width=WIDTH,
    )


def _title(name: str, runs: int) -> str:
    return f"Shadow stacks of {name}" + (f" and {runs - 1} more" if runs > 1 else "")
