"""A diff as text and as JSON."""

from __future__ import annotations

from typing import Any, Final

from shstk.replay import decode
from shstk.replay.diff.compare import WHOLE, Diff, Difference, Event, Side
from shstk.replay.diff.wording import lines, where
from shstk.schemas.seq import show

_GIVEN: Final = (
    *("kernel", "argv", "environ", "cwd", "cpu", "nousercfi", "abi", "seed", "quantum", "rlimits"),
    *("memory", "storage", "pids_max", "enable_cfi", "call_ns"),
)


def summary(diff: Diff) -> str:
    """One line: how many tasks differ, and the first difference."""
    a, b = diff.a.run.manifest, diff.b.run.manifest
    said = ""
    if diff.programs == "different":
        said = f"the programs differ: {a.program} in A, {b.program} in B; "
    elif diff.programs == "builds":
        said = f"two builds of {a.program}; "
    for name, side in (("A", diff.a), ("B", diff.b)):
        if side.cut_short:
            ending = side.run.manifest.ending
            said += f"{name} was cut short ({ending}) and is compared as far as it goes; "
    if diff.same:
        compared = [min(pair.a_events, pair.b_events) for pair in diff.pairs]
        tasks = sum(1 for events in compared if events)
        return f"{said}no difference: {_count(tasks, 'task')}, {_count(sum(compared), 'event')}"
    differing = [pair.path for pair in diff.pairs if pair.differences]
    first = diff.differences[0]
    what = "; ".join(lines(first, diff.a, diff.b)[:1])
    who = _count(len(differing), "task") if differing != [WHOLE] else WHOLE
    verb = "differs" if len(differing) == 1 else "differ"
    place = where(first, diff.a, diff.b)
    return f"{said}{who} {verb}; first at {place}: {what}"


def text(diff: Diff) -> str:
    """The summary, the two runs, then each difference with the events around it."""
    out = [summary(diff), ""]
    out += [_head(name, side) for name, side in (("A", diff.a), ("B", diff.b))]
    told = settings(diff)
    if told:
        out.append("   " + "; ".join(f"{name}: {x} in A, {y} in B" for name, x, y in told))
    if diff.left_out:
        out.append(f"   not compared, for a recorder can't observe it: {', '.join(diff.left_out)}")
    for number, difference in enumerate(diff.differences, 1):
        out += ["", *_difference(number, difference, diff)]
    return "\n".join(out) + "\n"


def settings(diff: Diff) -> list[tuple[str, str, str]]:
    """The settings in which the runs differ: (name, in A, in B)."""
    a, b = diff.a.run.manifest, diff.b.run.manifest
    given = () if a.provenance.real or b.provenance.real else _GIVEN  # the model's own settings
    told = [(name, str(getattr(a, name)), str(getattr(b, name))) for name in given]
    told += [
        (name, str(a.row.settings[name]), str(b.row.settings[name]))
        for name in a.row.settings
        if a.row[name] != b.row.settings[name].value
    ]
    return [(name, _given(x), _given(y)) for name, x, y in told if x != y]


def to_json(diff: Diff) -> dict[str, Any]:
    return {
        "summary": summary(diff),
        "programs": diff.programs,
        "a": _side(diff.a),
        "b": _side(diff.b),
        "settings": [dict(zip(("name", "a", "b"), row, strict=True)) for row in settings(diff)],
        "not_compared": diff.left_out,
        "tasks": [vars(pair) for pair in diff.pairs],
        "differences": [_json(difference, diff) for difference in diff.differences],
    }


def _head(name: str, side: Side) -> str:
    manifest = side.run.manifest
    ending = manifest.ending
    if manifest.exit_status is not None:
        ending += f" ({decode.wait_status(manifest.exit_status)})"
    how = f"under {manifest.kernel}, seed {manifest.seed}"
    if manifest.provenance.real:
        how = f"recorded by {manifest.provenance.recorder}, judged as {manifest.kernel}"
    return f"{name}  {side.run.name}: {' '.join(manifest.argv)} {how}, {ending}"


def _difference(number: int, difference: Difference, diff: Diff) -> list[str]:
    _, a, b = difference.places[0]
    at = "  ".join(f"{name} {show(seq)}" for name, seq in (("A", a), ("B", b)) if seq is not None)
    out = [f"{number}. {where(difference, diff.a, diff.b)}   {at}"]
    out += [f"   {line}" for line in lines(difference, diff.a, diff.b)]
    width = max((len(_place(e)) for e in _events(difference)), default=0)
    for mark, events, count in (
        ("=", difference.before, 0),
        ("A", difference.a, difference.a_count),
        ("B", difference.b, difference.b_count),
        ("=", difference.after, 0),
    ):
        out += [f"     {mark} {_place(event):<{width}}  {event.what}" for event in events]
        if count > len(events):
            out.append(f"     {mark} … {count - len(events)} more")
    if difference.count > 1:
        rest = [
            f"{task} at {' / '.join(show(seq) for seq in (x, y) if seq is not None)}"
            for task, x, y in difference.places[1:4]
        ]
        more = ", …" if difference.count > 1 + len(rest) else ""
        out.append(f"   … {difference.count - 1} more of the same kind: {', '.join(rest)}{more}")
    return out


def _events(difference: Difference) -> tuple[Event, ...]:
    return difference.before + difference.a + difference.b + difference.after


def _place(event: Event) -> str:
    return " ".join(show(seq) for seq in (event.a, event.b) if seq is not None)


def _json(difference: Difference, diff: Diff) -> dict[str, Any]:
    return {
        "where": where(difference, diff.a, diff.b),
        "task": difference.task,
        "words": lines(difference, diff.a, diff.b),
        "kind": "changed" if difference.changed else "only in A" if difference.a else "only in B",
        "a": [_event(event) for event in difference.a],
        "b": [_event(event) for event in difference.b],
        "a_count": difference.a_count,
        "b_count": difference.b_count,
        "fields": [
            {"name": name, "a": x or None, "b": y or None} for name, x, y in difference.fields
        ],
        "before": [_event(event) for event in difference.before],
        "after": [_event(event) for event in difference.after],
        "count": difference.count,
        "places": [{"task": task, "a": _at(x), "b": _at(y)} for task, x, y in difference.places],
    }


def _event(event: Event) -> dict[str, Any]:
    seqs = {name: show(seq) for name, seq in (("a", event.a), ("b", event.b)) if seq is not None}
    return {**seqs, "table": event.what.table, "text": str(event.what)}


def _side(side: Side) -> dict[str, Any]:
    manifest = side.run.manifest
    return {
        "run": side.run.name,
        "program": manifest.program,
        "kernel": manifest.kernel,
        "seed": manifest.seed,
        "ending": manifest.ending,
        "exit_status": manifest.exit_status,
    }


def _at(seq: int | None) -> str | None:
    return None if seq is None else show(seq)


def _given(value: str) -> str:
    return value if len(value) <= 60 else value[:57] + "…"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
