"""Two campaigns compared: which findings are new, gone or moved, by cause.

Compared are subjects, a program with its arguments and input under one kernel and CPU, so that the
two may have other seeds. A cause is new in a subject if B has it and A has not. It is gone if A has
it and B has not, although every cell of B finished and its rule was evaluated. It has moved if both
have it, in other functions or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from shstk.corpus.causes import SUBJECT, Cause, grouped
from shstk.corpus.store import Store
from shstk.corpus.summary import cause_json, cause_lines

_CELL = (*SUBJECT, "seed", "quantum")


@dataclass(frozen=True)
class Compared:
    """new: by cause, of B; gone: of A; moved: of B, and the places of A by cause. endings: cells of
    both whose programs end in another way. only_a, only_b: the number of subjects."""

    a: Store
    b: Store
    new: list[Cause]
    gone: list[Cause]
    moved: list[Cause]
    before: dict[str, list[str]] = field(default_factory=dict)
    endings: list[dict[str, Any]] = field(default_factory=list)
    only_a: int = 0
    only_b: int = 0

    @property
    def same(self) -> bool:
        return not (self.new or self.gone or self.moved or self.endings)


def compare(a: Store, b: Store) -> Compared:
    found_a, found_b = (_placed(store) for store in (a, b))
    on = [*SUBJECT, "cause"]
    cells_a, cells_b = (_subjects(store) for store in (a, b))
    whole = (
        b.cells.group_by(SUBJECT)
        .agg((pl.col("outcome") == "finished").all().alias("finished"), pl.col("evaluated"))
        .filter("finished")
        .explode("evaluated")
        .explode("evaluated")
        .select(*SUBJECT, rule="evaluated")
        .unique()
        .collect()
    )
    gone = found_a.join(found_b, on=on, how="anti").join(whole, on=[*SUBJECT, "rule"], how="semi")
    places = [*on, "task", "function"]
    moved = found_b.join(found_a, on=places, how="anti").join(found_a, on=on, how="semi")
    were = found_a.join(found_b, on=places, how="anti").join(moved, on=on, how="semi")
    return Compared(
        a,
        b,
        grouped(found_b.join(found_a, on=on, how="anti")),
        grouped(gone),
        grouped(moved.join(were, on=on, how="semi")),
        {cause.id: sorted(cause.places) for cause in grouped(were)},
        _endings(a, b),
        cells_a.join(cells_b, on=SUBJECT, how="anti").height,
        cells_b.join(cells_a, on=SUBJECT, how="anti").height,
    )


def _placed(store: Store) -> pl.DataFrame:
    return store.findings.filter("root").collect()


def _subjects(store: Store) -> pl.DataFrame:
    return store.cells.select(SUBJECT).unique().collect()


def _endings(a: Store, b: Store) -> list[dict[str, Any]]:
    """Without the place of a death, which moves with every change of a program."""
    columns = ("key", *_CELL, "outcome", "ending")
    parts = [
        store.cells.select(columns).with_columns(how=_how()).collect().sort("key")
        for store in (a, b)
    ]
    both = parts[0].join(parts[1], on=_CELL, suffix="_b").filter(pl.col("how") != pl.col("how_b"))
    first = both.sort(_CELL).group_by(*SUBJECT, "how", "how_b", maintain_order=True).first()
    return first.select(*SUBJECT, "seed", "how", "how_b", "key_b").sort(SUBJECT).to_dicts()


def _how() -> pl.Expr:
    ended = pl.col("ending").str.replace(r" (at|in) .*$", "")
    return pl.when(pl.col("outcome") == "finished").then(ended).otherwise(pl.col("outcome"))


def to_json(compared: Compared) -> dict[str, Any]:
    def told(store: Store, causes: list[Cause]) -> list[dict[str, Any]]:
        return [cause_json(store, cause) for cause in causes]

    return {
        "a": compared.a.where,
        "b": compared.b.where,
        "new": told(compared.b, compared.new),
        "gone": told(compared.a, compared.gone),
        "moved": [
            cause_json(compared.b, cause) | {"from": compared.before[cause.id]}
            for cause in compared.moved
        ],
        "endings": [
            {name: row[name] for name in (*SUBJECT, "seed")}
            | {"a": row["how"], "b": row["how_b"]}
            | {"reproduce": compared.b.plan[row["key_b"]].commands}
            for row in compared.endings
        ],
        "only_a": compared.only_a,
        "only_b": compared.only_b,
    }


def text(told: dict[str, Any]) -> list[str]:
    """Lines for people, of what `to_json` returned."""
    lines = []
    for word in ("new", "gone", "moved"):
        for cause in told[word]:
            first, *rest = cause_lines(cause)
            lines += [f"{word}: {first}", *rest[:-2]]
            if word == "moved":
                where = [", ".join(cause[name]) for name in ("from", "functions")]
                lines.append(f"  moved     from {where[0]} to {where[1]}")
            lines += rest[-2:]
    for one in told["endings"]:
        cell = f"{one['command']} under {one['kernel']}, seed {one['seed']}"
        lines.append(f"{cell}: {one['a']}, now {one['b']}")
        lines += [f"  {one['reproduce']}", ""]
    for name in ("a", "b"):
        if told[f"only_{name}"]:
            lines.append(f"only in {told[name]}: {told[f'only_{name}']} programs x kernels")
    counts = ", ".join(f"{len(told[word])} {word}" for word in ("new", "gone", "moved"))
    lines.append(
        f"{told['a']} -> {told['b']}: causes: {counts}; {len(told['endings'])} ends differ"
    )
    return lines
