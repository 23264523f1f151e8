"""Runs the benchmarks: python -m benchmarks [--only PART]… [--quick] [-o results.json]"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks import tables
from benchmarks.harness import Bench, Results

PARTS = (
    *("start", "executor", "core", "recording", "syscalls", "growth", "verdicts", "windows"),
    *("backwards", "plugins", "real_kernel"),
)


def say(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help="a part")
    parser.add_argument("--list", action="store_true", help="the parts, and what each measures")
    parser.add_argument("--quick", action="store_true", help="small and once: does it work?")
    parser.add_argument("--repeat", type=int, default=5, help="medians of so many (5)")
    parser.add_argument("--root", type=Path, help="an unpacked Debian riscv64: its programs too")
    parser.add_argument("-o", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="curves of growth as SVG")
    parser.add_argument(
        "--markdown", action="store_true", help="print only the README's table (of `recording`)"
    )
    parser.add_argument("--from", type=Path, dest="earlier", metavar="FILE", help="of -o: no runs")
    return parser.parse_args()


def measured(given: argparse.Namespace, work: Path) -> dict[str, Results]:
    if given.earlier:
        return tables.from_json(given.earlier.read_text(encoding="utf-8"))
    repeat = 1 if given.quick else given.repeat
    found = {}
    for name in ("recording",) if given.markdown else given.only or PARTS:
        part = import_module(f"benchmarks.parts.{name}")
        bench = Bench(work, repeat, given.quick, given.root, lambda w, n=name: say(f"{n}: {w}"))
        found[name] = part.measure(bench)
        say("")
        if not given.markdown:
            show(name, part, found[name])
    return found


def show(name: str, part: ModuleType, results: Results) -> None:
    print(f"{name}: {_first(part)}")
    print(*tables.text(results), sep="\n", end="\n\n", flush=True)


def _first(part: ModuleType) -> str:
    """The first sentence of what it measures."""
    return " ".join((part.__doc__ or "").split("\n\n")[0].split())


def main() -> None:
    given = arguments()
    if given.list:
        for name in PARTS:
            print(f"{name:12}{_first(import_module(f'benchmarks.parts.{name}'))}")
        return
    with tempfile.TemporaryDirectory() as directory:
        results = measured(given, Path(directory))
    if given.markdown:
        print(tables.markdown(results["recording"]), end="")
    elif given.earlier:
        for name, each in results.items():
            show(name, import_module(f"benchmarks.parts.{name}"), each)
    if given.o:
        settings = {"repeat": given.repeat, "quick": given.quick}
        given.o.write_text(tables.as_json(results, settings), encoding="utf-8")
    if given.plots:
        given.plots.mkdir(parents=True, exist_ok=True)
        for curve in (curve for each in results.values() for curve in each.curves):
            name = curve.title.replace(": ", "-").replace(" ", "-")
            (given.plots / f"{name}.svg").write_text(tables.svg(curve), encoding="utf-8")


if __name__ == "__main__":
    main()
