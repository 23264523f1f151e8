"""The events of listings, an entry of EVENTS each: table, words, columns filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shstk.listing.values import Area, BadValue, Names
from shstk.schemas import uapi
from shstk.schemas import vocabulary as kinds

PC: Final = 0x10000  # of instructions whose address does not matter


@dataclass
class Task:
    """The state of a task that listings track."""

    mm: int
    ssp: int = 0
    creator: int | None = None
    created: bool = False  # its `created` was seen


@dataclass
class Place:
    """An event while it is being read."""

    tid: int
    task: Task
    names: Names
    shadow_stacks: list[Area]  # mapped so far, in any mm
    words: list[str]  # those not yet taken
    flags: frozenset[str]
    ret: int | None  # the value after the =
    given: dict[str, Any] = field(default_factory=dict)  # columns set so far

    @property
    def ssp(self) -> int:
        """ssp before the event."""
        before = self.given.get("ssp_before")
        return self.task.ssp if before is None else int(before)

    def take(self, what: str) -> str:
        if not self.words:
            raise BadValue(f"expected {what}")
        return self.words.pop(0)


Fill = Callable[[Place], dict[str, Any]]


@dataclass(frozen=True)
class Event:
    """words: the columns that its words set, `column=default` if a word is optional (@creator:
    the creator's tid; @running: the task that ran before). fixed: columns it always sets. fill:
    columns it sets from its context. flags: words allowed anywhere after its name."""

    name: str
    table: str
    words: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    fill: Fill | None = None
    flags: frozenset[str] = frozenset()
    instruction: bool = False

    @property
    def columns(self) -> list[tuple[str, str | None]]:
        """(column, the text of its default or None) for each word."""
        parts = [word.partition("=") for word in self.words.split()]
        return [(name, default if equals else None) for name, equals, default in parts]


def _map(place: Place) -> dict[str, Any]:
    shadow = "ss" in place.flags
    made = {
        "hint": 0,
        "prot": uapi.PROT_READ if shadow else uapi.PROT_READ | uapi.PROT_WRITE,
        "flags": uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS,
        "shadow_stack": shadow,
    }
    word = place.take("an area, or a size if it failed")
    failed = place.ret is not None and place.ret < 0
    if not place.names.is_area(word):
        if not failed:
            raise BadValue(f"map {word} has no address: expected SIZE@BASE, or = -ENOMEM")
        return {**made, "length": place.names.number(word), "ret": place.ret}
    area = place.names.area(word)
    if shadow and not failed:
        place.shadow_stacks.append(area)
    return {**made, **_span(area), "ret": place.ret if failed else area.base}


def _on_area(place: Place) -> dict[str, Any]:
    area = place.names.area(place.take("an area"))
    return {**_span(area), "shadow_stack": _was_shadow(place, area), "ret": place.ret or 0}


def _protect(place: Place) -> dict[str, Any]:
    made = _on_area(place)
    return {**made, "prot": place.names.number(place.take("PROT_… bits"))}


def _remap(place: Place) -> dict[str, Any]:
    old = place.names.area(place.take("the old area"))
    new = place.names.area(place.take("the new area"))
    shadow = _was_shadow(place, old)
    if shadow:
        place.shadow_stacks.append(new)
    return {
        **_span(new),
        "old_start": old.base,
        "old_length": old.size,
        "flags": uapi.MREMAP_MAYMOVE,
        "shadow_stack": shadow,
        "ret": new.base if place.ret is None else place.ret,
    }


def _span(area: Area) -> dict[str, Any]:
    return {"start": area.base, "length": area.size}


def _was_shadow(place: Place, area: Area) -> bool:
    return any(area.touches(stack) for stack in place.shadow_stacks)


def _swap(place: Place) -> dict[str, Any]:
    addr = place.names.number(place.take("an address"))
    old, new = (place.names.data(f"u64:{place.take('old and new u64')}") for _ in range(2))
    return {"addr": addr, "bytes": old + new}


def _motion(place: Place, moved: int, **columns: Any) -> dict[str, Any]:
    """A shadow-stack instruction; if it faults, ssp is unchanged."""
    after = place.ssp if place.given.get("fault") is not None else place.ssp + moved
    return {"pc": PC, "ssp_before": place.ssp, "ssp_after": after % 2**64, **columns}


def _push(place: Place) -> dict[str, Any]:
    return _motion(place, -8, addr=(place.ssp - 8) % 2**64)


def _pop(place: Place) -> dict[str, Any]:
    return _motion(place, 8, addr=place.ssp, operand=place.given["value"])


def _read_ssp(place: Place) -> dict[str, Any]:
    return _motion(place, 0, value=place.ssp)


def _write_ssp(place: Place) -> dict[str, Any]:
    return _motion(place, (place.given["value"] or 0) - place.ssp)


def _swap_word(place: Place) -> dict[str, Any]:
    return _motion(place, 0)


def _pad(place: Place) -> dict[str, Any]:
    return _motion(place, 0, operand=place.given["value"])


def _signal(place: Place) -> dict[str, Any]:
    return {"ssp_before": place.ssp, "ssp_after": place.ssp}


def _deliver(place: Place) -> dict[str, Any]:
    if "token" not in place.flags:
        return _signal(place)
    slot = (place.ssp - 8) % 2**64
    token = {"ss_ptr": slot, "token_addr": slot, "token_value": place.ssp}
    return {**token, "ssp_before": place.ssp, "ssp_after": slot}


def _sigreturn(place: Place) -> dict[str, Any]:
    if "token" not in place.flags:
        return _signal(place)
    above = (place.ssp + 8) % 2**64
    token = {"ss_ptr": place.ssp, "token_addr": place.ssp, "token_value": above}
    return {**token, "ssp_before": place.ssp, "ssp_after": above}


def _at_ssp(place: Place) -> dict[str, Any]:
    return {"ssp": place.task.ssp}


def _at_pc(place: Place) -> dict[str, Any]:
    return {"pc": PC}


def _insn(place: Place) -> dict[str, Any]:
    return {"pc": PC, "ssp": place.task.ssp}


def _block(place: Place) -> dict[str, Any]:
    return {"pc": PC, "length": len(place.given["bytes"])}


_STEP_WORDS: Final = {
    "created": "value=@creator",
    "exec_done": "status=0",
    "exit_begin": "status=0",
    "clear_child_tid": "addr value=0",
    "futex_wake": "addr value=0",
    "vfork_done": "value=@creator",
    "mm_dropped": "value=0",
    "reaped": "value=@creator status=0",
}
_SS: Final = frozenset({"ss"})
_TOKEN: Final = frozenset({"token"})


def _steps() -> list[Event]:
    return [
        Event(kind, "task_events", _STEP_WORDS.get(kind, ""), {"kind": kind}, _at_ssp)
        for kind in kinds.TASK_EVENT_KINDS
    ]


def _cfi(kind: str, words: str, fill: Fill) -> Event:
    return Event(kind, "cfi", words, {"kind": kind}, fill, instruction=True)


EVENTS: Final[dict[str, Event]] = {
    event.name: event
    for event in (
        *_steps(),
        Event("new_mm", "mms", "cause from_mm=-"),
        Event("switch", "sched", "why from_tid=@running"),
        Event("map", "mappings", "", {"op": "map"}, _map, _SS),
        Event("unmap", "mappings", "", {"op": "unmap"}, _on_area),
        Event("protect", "mappings", "", {"op": "protect"}, _protect),
        Event("remap", "mappings", "", {"op": "remap"}, _remap),
        Event("discard", "mappings", "", {"op": "discard", "flags": uapi.MADV_DONTNEED}, _on_area),
        Event("mem_write", "kernel_memory", "addr bytes", {"op": "write"}),
        Event("mem_read", "kernel_memory", "addr bytes", {"op": "read"}),
        Event("mem_swap", "kernel_memory", "", {"op": "swap"}, _swap),
        _cfi("sspush", "value", _push),
        _cfi("sspopchk", "value", _pop),
        _cfi("ssamoswap", "addr value operand", _swap_word),
        _cfi("ssrdp", "", _read_ssp),
        _cfi("ssp_read", "", _read_ssp),
        _cfi("ssp_write", "value", _write_ssp),
        _cfi("lpad", "value", _pad),
        Event("fault", "faults", "cause tval=0", {}, _at_pc),
        Event("flow", "flow", "block", instruction=True),
        Event("block", "code", "block bytes", {}, _block, instruction=True),
        Event("insn", "insn", "word", {}, _insn, instruction=True),
        Event("deliver", "signals", "signo", {"kind": "delivery"}, _deliver, _TOKEN),
        Event("sigreturn", "signals", "", {"kind": "sigreturn"}, _sigreturn, _TOKEN),
        Event("fatal", "signals", "signo", {"kind": "fatal"}, _signal),
        Event("module", "modules", "module path input=-", {"bias": 0}),
        Event("output", "output", "fd bytes"),
    )
}
