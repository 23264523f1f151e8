"""Explanations as text and as JSON values. Positions are icount.n, addresses are hex."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import Any, Final, TypeVar

from shstk.replay.decode import signal_code, signal_name
from shstk.replay.explain.model import (
    Call,
    Explanation,
    Motion,
    Other,
    Pair,
    Some,
    Value,
    Word,
    Writer,
    as_text,
)
from shstk.replay.look import Look
from shstk.replay.symbols import Place
from shstk.schemas.seq import show

_WIDTH = 100
T = TypeVar("T")


def text(explanation: Explanation) -> str:
    """One explanation in full."""
    e = explanation
    lines = [*_wrapped(f"{e.run}: {ending(e)}"), "", *_wrapped(f"{e.title}.")]
    lines += _fields(e)
    lines += ["", *_wrapped(f"likely cause: {e.verdict.sentence}.")]
    lines += [line for item in e.verdict.evidence for line in _wrapped(item, "  - ", "    ")]
    if e.motions:
        since = "since that word was written" if e.writer else "before"
        lines += ["", f"what else moved ssp {since}:"]
        lines += _listed(e.motions, _motion)
    if e.shadow_stack:
        lines += ["", "return addresses on the shadow stack, from ssp upwards:"]
        lines += _listed(e.shadow_stack, _word)
    if e.two_stacks:
        lines += ["", *_compared(e.two_stacks)]
    if e.others:
        lines += ["", "the other threads:", *_columns([_other(o) for o in e.others])]
    if e.calls:
        lines += ["", "calls that had not returned, innermost first:"]
        lines += _listed(e.calls, _call)
    return "\n".join(lines) + "\n"


def short(explanation: Explanation, look: Look) -> list[str]:
    """A summary for a check, in lines that follow `ending`."""
    e, violated = explanation, explanation.verdict.violation
    rule = f" ({violated.rule.id} {violated.rule.slug})" if violated else ""
    return [
        *look.text(f"{e.title}.", 2),
        *look.text(f"likely cause{rule}: {e.verdict.sentence}.", 2),
        f"  more: shstk explain-fault {e.run} {show(e.fault.seq)}",
    ]


def ending(e: Explanation) -> str:
    """`task 100 was killed by SIGSEGV (SEGV_CPERR) at 151.1 in f (f.c:3)`"""
    signal = signal_name(e.fault.signo)
    code = signal_code(e.fault.signo, e.fault.code)
    named = f"{signal} ({code})" if code.startswith(("SEGV", "SI_KERNEL")) else signal
    how = "was killed by" if e.fault.fatal else "caught" if e.fault.caught else "raised"
    where = f" in {e.place}" if e.place else f" at pc {e.fault.pc:#x}" if e.fault.pc else ""
    when = "" if e.dumped else f" at {show(e.fault.seq)}"
    return f"task {e.fault.tid} {how} {named}{when}{where}"


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The explanation as JSON values."""
    e = explanation
    return {
        "run": e.run,
        "seq": show(e.fault.seq),
        "tid": e.fault.tid,
        "mm": e.fault.mm,
        "kind": e.kind,
        "title": e.title,
        "signal": signal_name(e.fault.signo),
        "code": e.fault.code,
        "fatal": e.fault.fatal,
        "pc": _hex(e.fault.pc),
        "place": _place(e.place),
        "instruction": e.fault.instruction,
        "address": _hex(e.fault.address),
        "ssp": _hex(e.ssp),
        "expected": _value(e.expected),
        "found": _value(e.found),
        "written_by": _writer(e.writer),
        "motions": [
            {
                "seq": show(m.seq),
                "tid": m.tid,
                "reason": m.reason,
                "ssp_before": _hex(m.before),
                "ssp_after": _hex(m.after),
                "place": _place(m.place),
            }
            for m in e.motions
        ],
        "motions_count": len(e.motions),
        "shadow_stack": [
            {
                "addr": hex(w.address),
                "value": hex(w.value),
                "place": _place(w.place),
                "written_by": _writer(w.writer),
            }
            for w in e.shadow_stack
        ],
        "shadow_stack_count": len(e.shadow_stack),
        "calls": [
            {
                "function": c.function,
                "kind": c.kind,
                "seq": show(c.seq),
                "caller": _place(c.site),
            }
            for c in e.calls
        ],
        "calls_count": len(e.calls),
        "two_stacks": [
            {
                "kind": p.kind,
                "value": hex(p.value),
                "place": _place(p.place),
                "shadow": _hex(p.shadow),
                "slot": p.slot,
                "how": p.how,
            }
            for p in e.two_stacks
        ],
        "threads": [
            {
                "tid": o.tid,
                "pc": hex(o.pc),
                "place": _place(o.place),
                "ssp": _hex(o.ssp),
                "shares": o.shares,
                "agrees": o.agrees,
            }
            for o in e.others
        ],
        "cause": {
            "pattern": e.verdict.pattern,
            "sentence": e.verdict.sentence,
            "evidence": list(e.verdict.evidence),
            "rule": e.verdict.rule,
        },
    }


def _fields(e: Explanation) -> Iterator[str]:
    rows = []
    if e.expected:
        rows.append(("expected", _shown(e.expected)))
    if e.writer:
        at = f" in {e.writer.place}" if e.writer.place else ""
        who = f"by task {e.writer.tid}" if e.writer.tid is not None else "by the kernel"
        rows.append(("written", f"at {show(e.writer.seq)} {who}, {e.writer.how}{at}"))
    if e.found:
        rows.append(("found", _shown(e.found)))
    if e.fault.instruction:
        rows.append(("by", e.fault.instruction))
    if e.fault.address is not None:
        rows.append(("address", hex(e.fault.address)))
    if e.ssp is not None:
        rows.append(("ssp", hex(e.ssp)))
    for name, value in rows:
        yield f"  {name:10}{value}"


def _shown(value: Value) -> str:
    return f"{value.value:#x}" + (f"  {value.place}" if value.place else "")


def _motion(m: Motion) -> tuple[str, ...]:
    before = "?" if m.before is None else hex(m.before)
    after = "?" if m.after is None else hex(m.after)
    return show(m.seq), m.reason, f"{before} -> {after}", str(m.place) if m.place else ""


def _word(w: Word) -> tuple[str, ...]:
    value = w.place.name if w.place else hex(w.value)
    source = w.place.source if w.place and w.place.source else ""
    return (
        hex(w.address),
        value,
        source,
        f"{w.writer.how} of {w.writer.tid} at {show(w.writer.seq)}",
    )


def _call(c: Call) -> tuple[str, ...]:
    how = "a signal" if c.kind == "signal" else str(c.site) if c.site else "?"
    return c.function, f"called at {show(c.seq)}", f"from {how}"


_MARKS: Final = {"shadow": "-", "ordinary": "+"}
_SAME: Final = 4  # equal lines that are shown before, between and after others


def _compared(pairs: Sequence[Pair]) -> list[str]:
    """As a unified diff: what is on both has no mark."""
    differs = [i for i, pair in enumerate(pairs) if pair.kind in _MARKS]
    head = "the two call stacks, innermost first"
    if any(pair.kind == "unshadowed" for pair in pairs):
        head = "the call stack, innermost first (there is no shadow stack to compare it with)"
    elif not any(pair.shadow is not None for pair in pairs):
        head = "the call stack, innermost first (no return address is on the shadow stack)"
    elif differs:
        head += " (- the shadow stack alone has it, + the ordinary stack alone)"
    else:
        head += ": they agree"
    rows: list[tuple[str, ...]] = [("", "shadow stack", "ordinary stack", "returns to")]
    rows += [_pair(pair, i == min(differs, default=-1)) for i, pair in enumerate(pairs)]
    lines = _columns(rows)
    shown = {0, *range(1, 1 + _SAME), *range(len(lines) - _SAME, len(lines))}
    shown |= {i + 1 for at in differs for i in range(at - _SAME, at + _SAME + 1)}
    found, hidden = [f"{head}:"], 0
    for i, line in enumerate(lines):
        if i in shown or hidden < 0:
            found += [f"  … {hidden} more, the same on both"] if hidden else []
            found.append(line)
            hidden = 0
        else:
            hidden += 1
    return found


def _pair(pair: Pair, first: bool) -> tuple[str, ...]:
    shadow = "" if pair.shadow is None else hex(pair.shadow)
    text = as_text(pair.value)
    name = str(pair.place) if pair.place else f"{pair.value:#x}" + (f", {text}" if text else "")
    if pair.shadow is not None and pair.value == pair.shadow + 8:
        name = "a token"
    notes = {
        "token": "the token of a signal",
        "interrupted": f"interrupted at {name}",
        "not pushed": f"{name} (not pushed)",
        "unclear": f"{name} (not on the shadow stack; its function's code is not known)",
    }
    told = notes.get(pair.kind, name)
    told += "  <- the first that differs" if first else ""
    return _MARKS.get(pair.kind, ""), shadow, pair.slot or "", told


def _other(o: Other) -> tuple[str, ...]:
    where = f"in {o.place}" if o.place else f"at pc {o.pc:#x}"
    ssp = "no shadow stack" if o.ssp is None else f"ssp {o.ssp:#x}"
    words = {True: "its two call stacks agree", False: "its two call stacks differ", None: ""}
    shares = "on the same shadow stack" if o.shares else ""
    return str(o.tid), where, ssp, "; ".join(filter(None, (shares, words[o.agrees])))


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _listed(items: Some[T], line: Callable[[T], tuple[str, ...]]) -> list[str]:
    """A line each, and the number of those left out."""
    lines = _columns([line(item) for item in items])
    if items.more:
        lines.insert(len(items.first), f"  … {items.more} more")
    return lines


def _wrapped(line: str, first: str = "", rest: str = "") -> list[str]:
    return wrap(
        line,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


def _value(value: Value | None) -> dict[str, Any] | None:
    return None if value is None else {"value": hex(value.value), "place": _place(value.place)}


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "module": place.module,
        "symbol": place.symbol,
        "offset": hex(place.offset),
        "file": place.file,
        "line": place.line,
    }


def _writer(writer: Writer | None) -> dict[str, Any] | None:
    if writer is None:
        return None
    return {
        "how": writer.how,
        "seq": show(writer.seq),
        "tid": writer.tid,
        "place": _place(writer.place),
    }
