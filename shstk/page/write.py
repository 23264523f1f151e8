"""The page as text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from shstk.page.content import chapters, table
from shstk.page.picture import WIDTH, draw
from shstk.replay.check import Report
from shstk.schemas.errors import UsageError
from shstk.schemas.version import VERSION

if TYPE_CHECKING:
    from jinja2 import Template

    from shstk.replay.run import Run


def page(runs: Sequence[Run], reports: Sequence[Report]) -> str:
    """One HTML page, with everything it needs in it. Raises UsageError without the package
    jinja2."""
    template = _template("page.html.jinja")
    told = chapters(runs, reports)
    return template.render(
        chapters=told,
        lines=table(told),
        title=_title(told[0].run.name, len(told)),
        version=VERSION,
        width=WIDTH,
    )


def svg(run: Run, report: Report | None = None) -> str:
    """The picture of a run, as HTML that stands alone; with a report its findings are marked."""
    template = _template("alone.jinja")
    drawn = chapters([run], [report])[0].picture if report else draw(run, ())
    return template.render(name=run.name, picture=drawn, width=WIDTH)


def _template(name: str) -> Template:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UsageError(
            "a report needs the package jinja2", "pip install 'shstk[report]'"
        ) from None

    def read(name: str) -> str:
        return (files("shstk") / "page" / name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _title(name: str, runs: int) -> str:
    return f"Shadow stacks of {name}" + (f" and {runs - 1} more" if runs > 1 else "")
