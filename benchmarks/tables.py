"""Results as text, as JSON, as the README's table, and growth as SVG."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from benchmarks.harness import Curve, Figure, Results

README: Final = {  # columns of the README's table -> (column, unit) of the part `recording`
    "not recorded": ("executed", "MIPS"),
    "default": ("default", "MIPS"),
    "`--trace cfi`": ("cfi", "MIPS"),
    "`--trace flow`": ("flow", "MIPS"),
    "`cfi,flow`": ("cfi,flow", "MIPS"),
    "bytes an instruction, `cfi,flow`": ("cfi,flow", "bytes/instruction"),
}


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(results: Results) -> Iterator[str]:
    """The figures by rows, each with its goal."""
    figures = results.figures
    width = max((len(figure.row) for figure in figures), default=0)
    columns = max((len(figure.column) for figure in figures), default=0)
    last = None
    for figure in figures:
        row = figure.row if figure.row != last else ""
        last = figure.row
        missed = "" if reached(figure) else "  missed"
        goal = f"   goal {figure.goal}{missed}" if figure.goal else ""
        value = f"{number(figure.value):>10} {figure.unit:18}"
        yield f"  {row:{width}}  {figure.column:{columns}}  {value}{goal}".rstrip()
    for peer, why in results.absent.items():
        yield f"  without {peer}: {why}"


def reached(figure: Figure) -> bool:
    under = figure.most is None or figure.value <= figure.most
    return under and (figure.least is None or figure.value >= figure.least)


def as_json(measured: Mapping[str, Results], settings: Mapping[str, Any]) -> str:
    head = {"machine": platform.processor() or platform.machine(), **settings}
    parts = {name: asdict(results) for name, results in measured.items()}
    return json.dumps({**head, "parts": parts}, indent=1, ensure_ascii=False) + "\n"


def from_json(data: str) -> dict[str, Results]:
    return {
        name: Results(
            [Figure(**figure) for figure in part["figures"]],
            [
                Curve(c["title"], c["across"], tuple(map(tuple, c["points"])))
                for c in part["curves"]
            ],
            part["absent"],
        )
        for name, part in json.loads(data)["parts"].items()
    }


def markdown(results: Results) -> str:
    """The README's table, of the part `recording`: millions of instructions a second."""
    known = {(f.row, f.column, f.unit): f.value for f in results.figures}
    rows = dict.fromkeys(figure.row for figure in results.figures)
    lines = [f"| guest | {' | '.join(README)} |", "|---" * (len(README) + 1) + "|"]
    for row in rows:
        cells = (number(known[row, column, unit]) for column, unit in README.values())
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def svg(curve: Curve) -> str:
    """Both axes are logarithmic: what is linear has the slope of the dotted line."""
    width, height, edge = 420, 280, 50
    xs, ys = zip(*((math.log10(x), math.log10(max(y, 1e-3))) for x, y in curve.points), strict=True)
    low_x, low_y = min(xs), math.floor(min(ys))
    span = max(max(xs) - low_x, max(ys) - low_y, 1.0)

    def at(x: float, y: float) -> str:
        right = edge + (x - low_x) / span * (width - 2 * edge)
        return f"{right:.1f},{height - edge - (y - low_y) / span * (height - 2 * edge):.1f}"

    line = " ".join(map(at, xs, ys))
    linear = f"{at(xs[-1] - span, ys[-1] - span)} {at(xs[-1], ys[-1])}"
    marks = "".join(
        '<text x="{}" y="{}">{} s</text>'.format(*at(x, y).split(","), number(10**y))
        for x, y in zip(xs, ys, strict=True)
    )
    below = "".join(
        f'<text x="{at(x, low_y).split(",")[0]}" y="{height - edge + 16}">{number(10**x)}</text>'
        for x in xs
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="10" text-anchor="middle">
<rect width="{width}" height="{height}" fill="white"/>
<text x="{width / 2}" y="18" font-size="13">{curve.title}</text>
<text x="{width / 2}" y="{height - 12}">{curve.across}</text>
<clipPath id="c"><rect x="{edge}" y="{edge / 2}" width="{width - edge}" \
height="{height - 1.5 * edge}"/></clipPath>
<polyline points="{linear}" fill="none" stroke="gray" stroke-dasharray="2 4" clip-path="url(#c)"/>
<polyline points="{line}" fill="none" stroke="black"/>
{marks}{below}
</svg>
"""
