"""Runs, reports and matrices as a notebook shows them. Their tables stay numbers; only what is
shown has positions as icount.n and addresses in hex."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shstk import render
from shstk.replay.check import Report
from shstk.replay.run import Run
from shstk.schemas.errors import UsageError
from shstk.schemas.manifest import Manifest
from shstk.schemas.tables import FINDINGS

if TYPE_CHECKING:
    import polars as pl

    from shstk.schemas.units import Unit

_ROWS: Final = 40  # of a table, as a notebook shows it
_FINDING: Final = ("rule", "slug", "seq", "tid", "mm", "addr", "expected", "actual", "note")


@dataclass(frozen=True)
class Shown:
    """A frame with its values written by their units: text to look at. `frame` has the numbers."""

    frame: pl.DataFrame
    units: Mapping[str, Unit]

    def __repr__(self) -> str:
        out = io.StringIO()
        render.write_frame(self.frame.head(_ROWS), self.units, "text", out)
        return out.getvalue() + _more(self.frame.height)

    def _repr_html_(self) -> str:
        rows = render.shown_rows(self.frame, self.units)
        return _table(self.frame.columns, rows, self.frame.height)


@dataclass(frozen=True)
class Picture:
    """The picture of a run: its tasks, its shadow stacks, and who was on them how deep."""

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.html, encoding="utf-8")


class OpenRun(Run):
    """What `shstk.open` returns."""

    def show(self, what: str) -> Shown:
        """A table, a view, or a query: positions as icount.n, addresses in hex. UsageError."""
        from shstk.sql import query

        sql = what if " " in what.strip() else f"SELECT * FROM {what}"
        answer = query(self, sql)
        return Shown(answer.frame, answer.units)

    def timeline(self) -> Picture:
        """The picture of the run. For Perfetto: shstk.write_timeline. UsageError without jinja2."""
        from shstk.page.write import svg

        return Picture(svg(self))

    def __repr__(self) -> str:
        return f"<run {self.name}: {_command(self.manifest)} under {self.manifest.row.name}>"

    def _repr_html_(self) -> str:
        m = self.manifest
        rows = [
            ("program", _command(m)),
            ("kernel", m.row.name),
            ("ended", m.ending),
            ("instructions", f"{m.icount:,}"),
            ("tables", ", ".join(f"{n} ({e.rows:,})" for n, e in m.tables.items())),
        ]
        return f"<b>{escape(self.name)}</b>{_table((), rows, len(rows))}"


@dataclass(frozen=True)
class Judged(Report):
    """What `shstk.check` returns. opened: the run, if there still is one."""

    opened: Run | None = None

    def show(self) -> Shown:
        """What is violated, where: positions as icount.n, addresses in hex."""
        return Shown(self.violated.select(_FINDING), FINDINGS.units)

    def plot(self) -> Picture:
        """The picture of the run with the findings on it. UsageError without jinja2."""
        from shstk.page.write import svg

        if self.opened is None:
            raise UsageError("the run is deleted", "keep it: shstk.matrix(…, keep=DIRECTORY)")
        return Picture(svg(self.opened, self))

    def __repr__(self) -> str:
        from shstk.replay.verdict import summary

        return f"<report: {summary(self, None)}>"

    def _repr_html_(self) -> str:
        from shstk.replay.verdict import summary

        rows = [
            (
                kind.causes[0].root.rule.id,
                kind.causes[0].root.rule.slug,
                len(kind.causes),
                kind.causes[0].root.finding.note,
            )
            for kind in self.kinds
        ]
        text = f"<b>{escape(summary(self, None))}</b>"
        return text + _table(("rule", "slug", "causes", "the first"), rows, len(rows)) * bool(rows)


class Matrix(dict[str, Judged]):
    """What `shstk.matrix` returns: kernel -> report."""

    def _repr_html_(self) -> str:
        from shstk.replay.matrix import Died, Line, deaths, matrix

        lines: list[Died | Line] = [*deaths({"": self}), *matrix({"": self})]
        if not lines:
            return escape(f"no findings under {', '.join(self)}")
        rows = [line.words() for line in lines]
        return _table(("rule", "slug", *self, "changes"), rows, len(rows))


def judged(report: Report, run: Run | None) -> Judged:
    own = {one.name: getattr(report, one.name) for one in fields(report)}
    return Judged(**own, opened=run)


def _command(manifest: Manifest) -> str:
    return " ".join(manifest.argv) or manifest.program


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]], height: int) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in islice(rows, _ROWS)
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return table + (f"<p>{_more(height)}</p>" if height > _ROWS else "")


def _more(height: int) -> str:
    return f"{height - _ROWS:,} more rows" if height > _ROWS else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
