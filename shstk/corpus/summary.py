"""A campaign as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from shstk.corpus.causes import Cause, by_age, causes
from shstk.corpus.rows import FAILED
from shstk.corpus.store import Store

_LISTED = 10


def to_json(store: Store) -> dict[str, Any]:
    rows = store.cells.select("key", "command", "kernel", "outcome", "message", "causes").collect()
    failed = rows.filter(pl.col("outcome").is_in(FAILED)).sort("command", "kernel", "key")
    return {
        "store": store.where,
        "cells": len(store.plan),
        "outcomes": dict(sorted(Counter(rows["outcome"].to_list()).items())),
        "with_findings": rows.filter(pl.col("causes") > 0).height,
        "causes": [cause_json(store, cause) for cause in causes(store)],
        "failed": [
            {
                "key": row["key"],
                "outcome": row["outcome"],
                "message": row["message"],
                "reproduce": store.plan[row["key"]].commands,
            }
            for row in failed.iter_rows(named=True)
        ],
    }


def cause_json(store: Store, cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause.id,
        "rule": cause.rule,
        "slug": cause.slug,
        "severity": cause.severity,
        "doubtful": cause.doubtful,
        "words": cause.words,
        "findings": cause.findings,
        "cells": len(cause.cells),
        "programs": sorted(cause.commands),
        "kernels": cause.ordered_kernels,
        "functions": sorted(cause.places),
        "reproduce": store.plan[cause.example].commands,
    }


def text(told: dict[str, Any]) -> list[str]:
    """Lines for people, of what `to_json` returned."""
    lines = []
    for cause in told["causes"]:
        lines += cause_lines(cause)
    for failed in told["failed"][:_LISTED]:
        why = f": {failed['message']}" if failed["message"] else ""
        lines += [f"{failed['outcome']}{why}", f"  {failed['reproduce']}"]
    if more := len(told["failed"]) - _LISTED:
        lines += [f"… {more} more failed"] if more > 0 else []
    stored = sum(told["outcomes"].values())
    failures = sum(told["outcomes"].get(name, 0) for name in FAILED)
    lines.append(
        f"{told['store']}: {stored} of {told['cells']} cells done, {told['with_findings']} with"
        f" findings of {_count(len(told['causes']), 'cause')}, {failures} failed"
    )
    return lines


def cause_lines(cause: dict[str, Any]) -> list[str]:
    doubt = " (?)" if cause["doubtful"] else ""
    return [
        f"{cause['cause']}  {cause['rule']} {cause['slug']} ({cause['severity']}){doubt}:"
        f" {_count(cause['cells'], 'cell')}, {_count(cause['findings'], 'finding')}",
        f"  {cause['words'].partition(': ')[2]}",
        f"  kernels   {' '.join(cause['kernels'])}",
        f"  programs  {_some(cause['programs'])}",
        f"  {cause['reproduce']}",
        "",
    ]


def matrix(store: Store) -> tuple[list[str], list[tuple[str, list[dict[str, Any]]]]]:
    """The kernels; and for each program a box for each of them: its cells, those that failed, and
    the causes of their findings."""
    rows = store.cells.select("key", "command", "kernel", "outcome").collect()
    found = store.findings.filter("root").select("command", "kernel", "cause", "rule").collect()
    kernels = by_age(set(rows["kernel"]))
    boxes: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        box = boxes.setdefault(row["command"], {}).setdefault(
            row["kernel"], {"cells": 0, "failed": 0, "causes": {}}
        )
        box["cells"] += 1
        box["failed"] += row["outcome"] != "finished"
    for command, kernel, cause, rule in sorted(found.iter_rows()):
        boxes[command][kernel]["causes"][cause] = rule
    empty = {"cells": 0, "failed": 0, "causes": {}}
    return kernels, [
        (command, [boxes[command].get(kernel, empty) for kernel in kernels])
        for command in sorted(boxes)
    ]


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
