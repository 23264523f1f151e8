"""manifest.json: the recipe of a run and the seal over its tables.

The dataclasses are the format: their fields in this order, u64 as hex strings (JSON numbers lose
bits past 2**53 elsewhere), tuples as lists. Reading checks every field against its type.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Final, NewType, Union, get_args, get_origin, get_type_hints

from shstk.schemas import vocabulary as words
from shstk.schemas.errors import BadRun
from shstk.schemas.extensions import CPUS
from shstk.schemas.revisions import SWITCHES, Revision, Setting, recorded
from shstk.schemas.selections import SELECTED, table_of
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import SCHEMA_VERSION, TABLES, TRACES

NAME: Final = "manifest.json"

_DAMAGED: Final = "the run is damaged; record it again"

_NEW_IN_3: Final = {
    "provenance": {"recorder": "model", "facts": {}, "smp": 1, "observed": None, "blind": {}}
}
_NEW_IN_4: Final = {"pids_max": None, "call_ns": 0, "storage": None}
# The schema versions that can be read. Each has the fields that its manifests lack, with the values
# that are read for them. A table that a version lacks has no rows. A column only ever changed in
# that it may be null.
READABLE: Final[dict[int, dict[str, Any]]] = {
    1: {"trees": [], "stdin": None, "tty": None, "plugins": {}, **_NEW_IN_3, **_NEW_IN_4},
    2: {**_NEW_IN_3, **_NEW_IN_4},
    3: _NEW_IN_4,
    4: {"storage": None},
    5: {"storage": None},  # some of the first ones
}

U64 = NewType("U64", int)


@dataclass(frozen=True)
class Rlimit:
    """A resource limit, bytes or counts; RLIM_INFINITY is 2**64 - 1."""

    soft: U64
    hard: U64


@dataclass(frozen=True)
class TableEntry:
    """One table's file and the seal over it."""

    rows: int
    bytes: int  # size of the file
    sha256: str  # of the file
    content_sha256: str  # of the values, whatever library wrote them (schemas/content.py)
    first_seq: U64
    last_seq: U64


@dataclass(frozen=True)
class TreeEntry:
    """A directory or file of the host that the guest could see."""

    kind: str  # of vocabulary.TREE_KINDS; program: the program itself, where no other tree holds it
    guest: str  # where in the guest
    writable: bool  # bind: with :rw; root: with an overlay


@dataclass(frozen=True)
class PluginEntry:
    """A plugin's table: plugins/<name>.parquet, and the seal over it."""

    rows: int
    bytes: int
    sha256: str
    columns: dict[str, str]  # name -> Arrow type


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who observed the run, on what, and what of it could be seen.

    A key of `observed` is a table (all of its rows), or a selection of its rows
    (schemas/selections.py).
    """

    recorder: str = "model"  # of vocabulary.RECORDERS
    facts: dict[str, str] = field(default_factory=dict)  # of what it ran on: banner, image, qemu, …
    smp: int = 1  # harts that ran at once
    observed: dict[str, tuple[str, ...]] | None = None  # -> columns; null: everything
    blind: dict[str, str] = field(default_factory=dict)  # rows or column -> why this run lacks them

    @property
    def real(self) -> bool:
        """Whether it ran elsewhere than under our model."""
        return self.recorder not in ("model", "listing")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was recorded, how, and how it ended. No host paths, no other host data, no clock."""

    schema_version: int = SCHEMA_VERSION  # of READABLE
    tool_version: str
    program: str  # guest path
    argv: tuple[str, ...]
    environ: tuple[str, ...]  # K=V
    cwd: str
    cpu: str  # of extensions.CPUS
    nousercfi: bool
    kernel: str  # the revision's name, with the switches the user changed
    switches: dict[str, Setting]
    abi: str  # merged or own
    seed: U64
    quantum: tuple[int, int]  # instructions, lowest and highest
    call_ns: int = 0  # virtual time of a system call
    rlimits: dict[str, Rlimit]  # of the first process, keys as uapi.RLIMITS
    memory: U64 | None  # bytes of the machine; null: unlimited
    page_size: int
    auxv: tuple[tuple[U64, U64], ...]  # type, value
    first_tid: int
    max_instructions: U64 | None  # the recorder's limit, not the guest's
    timeout: float | None  # the recorder's limit, seconds
    traced: tuple[str, ...]  # of tables.TRACES
    ending: str  # of vocabulary.ENDINGS
    exit_status: int | None  # wait status of the first process, if it ended
    icount: U64  # instructions of the whole run
    trees: tuple[TreeEntry, ...] = ()  # none: not recorded from a program
    provenance: Provenance = field(default_factory=Provenance)
    stdin: str | None = None  # sha256 of the contents of standard input or the terminal
    tty: tuple[int, int] | None = None  # rows and columns of the terminal, if there was one
    enable_cfi: str = "off"  # what the loader enabled for the program: off, auto or on
    storage: U64 | None = None  # bytes that files of the guest may have; null: 1 GiB
    pids_max: U64 | None = None  # tasks that the guest's cgroup may have; null: unlimited
    recovered_up_to: U64 | None = None  # seq; later events were lost with the recording process
    warnings: tuple[str, ...] = ()
    tables: dict[str, TableEntry] = field(default_factory=dict)  # tables with rows
    plugins: dict[str, PluginEntry] = field(default_factory=dict)  # by name

    @property
    def row(self) -> Revision:
        """The revision, with the switches as resolved at recording."""
        return recorded(self.kernel, self.switches)

    @property
    def complete(self) -> bool:
        """Whether the program ran to its own end, so that rules about the end can be judged."""
        return self.ending in ("exited", "killed")

    @property
    def executable(self) -> bool:
        """Whether it can be executed again: it was recorded from a program under our model."""
        return bool(self.trees) and not self.provenance.real

    def to_json(self) -> str:
        """The file's text. Its last field is a hash over the others."""
        return _sealed(_encode(Manifest, self))

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Raises BadRun, naming the field that is missing or wrong."""
        try:
            raw = json.loads(text)
        except ValueError as e:
            raise BadRun(f"{where} is not JSON: {e}", _DAMAGED) from e
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if not isinstance(version, int) or version not in READABLE:
            raise BadRun(
                f"{where}: schema_version {version}, this shstk reads"
                f" {' and '.join(map(str, READABLE))}",
                "use the shstk that recorded it (see tool_version), or record the program again",
            )
        try:
            raw.pop("sha256", None)
            made: Manifest = _decode(Manifest, READABLE[version] | raw, "")
        except _BadField as e:
            raise BadRun(f"{where}: {e}", _DAMAGED) from None
        for place, value, known in (
            ("ending", made.ending, words.ENDINGS),
            *(("tables", name, tuple(TABLES)) for name in made.tables),
            *(("trees", tree.kind, words.TREE_KINDS) for tree in made.trees),
            ("provenance.recorder", made.provenance.recorder, words.RECORDERS),
            *(("provenance.observed", *one) for one in _observed(made.provenance)),
            ("cpu", made.cpu, CPUS),
            *(("traced", trace, TRACES) for trace in made.traced),
        ):
            if value not in known:
                raise BadRun(f"{where}: {place}: unknown {value!r}", f"known: {' '.join(known)}")
        if missing := SWITCHES.keys() - made.row.settings.keys():
            raise BadRun(
                f"{where}: kernel: unknown {made.kernel!r}, and no switch {min(missing)}",
                f"use the shstk that recorded it: {made.tool_version}",
            )
        for place, numbers, low, high in (
            ("icount", [made.icount], 0, 2**63 // STEPS),
            ("quantum", made.quantum, 1, 2**32 - 1),
            ("tty", made.tty or (), 0, 2**16 - 1),
            ("first_tid", [made.first_tid], 1, 2**31 - 1),
        ):
            if wrong := [n for n in numbers if not low <= n <= high]:
                raise BadRun(f"{where}: {place}: {wrong[0]} is not in {low}..{high}", _DAMAGED)
        try:
            changed = _sealed(raw) != text
        except UnicodeEncodeError:  # half a surrogate pair: valid JSON, but not in any manifest
            changed = True
        if changed:
            raise BadRun(f"{where} has been changed", "its sha256 is not that of its fields")
        return made


def _observed(provenance: Provenance) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each word of `observed` and `blind`, and the words that are known at its place."""
    for rows, columns in (provenance.observed or {}).items():
        yield rows, SELECTED
        for column in columns if rows in SELECTED else ():
            yield column, TABLES[table_of(rows)].names
    for need in provenance.blind:
        rows, _, column = need.partition(".")
        yield rows, SELECTED
        if column and rows in SELECTED:
            yield column, TABLES[table_of(rows)].names


class _BadField(ValueError):
    pass


def _sealed(fields: dict[str, Any]) -> str:
    """The file's text: these fields, and a hash over them as the last."""
    sha256 = hashlib.sha256(_dump(fields).encode()).hexdigest()
    return _dump(fields | {"sha256": sha256})


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


_hints: Callable[[type], dict[str, Any]] = cache(get_type_hints)


def _encode(kind: Any, value: Any) -> Any:
    """A value of type `kind` as JSON values."""
    if value is None:
        return None
    if kind is U64:
        return hex(value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return {f.name: _encode(hints[f.name], getattr(value, f.name)) for f in fields(kind)}
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _encode(args[0], value)
    if origin is dict:
        return {key: _encode(args[1], item) for key, item in value.items()}
    if origin is tuple:
        kinds = [args[0]] * len(value) if args[1] is ... else args
        return [_encode(k, item) for k, item in zip(kinds, value, strict=True)]
    return value


def _decode(kind: Any, raw: Any, place: str) -> Any:
    """JSON values as a value of type `kind`; raises _BadField naming the place."""

    def expect(ok: bool, what: str) -> None:
        if not ok:
            raise _BadField(f"{place or 'manifest'}: expected {what}, found {raw!r:.60}")

    if kind is U64:
        expect(isinstance(raw, str) and raw.startswith("0x"), "a u64 as a hex string")
        try:
            value = int(raw, 16)
        except ValueError:
            value = -1
        expect(0 <= value < 2**64, "a u64 as a hex string")
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        expect(isinstance(raw, dict), "an object")
        hints = _hints(kind)
        names = [f.name for f in fields(kind)]
        for wrong, why in ((set(names) - set(raw), "missing"), (set(raw) - set(names), "unknown")):
            if wrong:
                raise _BadField(f"{_join(place, min(wrong))}: {why}")
        return kind(**{name: _decode(hints[name], raw[name], _join(place, name)) for name in names})
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if raw is None else _decode(args[0], raw, place)
    if origin is dict:
        expect(isinstance(raw, dict), "an object")
        return {key: _decode(args[1], item, _join(place, key)) for key, item in raw.items()}
    if origin is tuple:
        expect(isinstance(raw, list), "a list")
        kinds = [args[0]] * len(raw) if args[1] is ... else args
        expect(len(kinds) == len(raw), f"{len(kinds)} values")
        pairs = zip(kinds, raw, strict=True)
        return tuple(_decode(k, item, f"{place}[{i}]") for i, (k, item) in enumerate(pairs))
    if kind is float:
        expect(isinstance(raw, int | float) and not isinstance(raw, bool), "a number")
        return float(raw)
    expect(type(raw) is kind, f"{kind.__name__}")
    return raw


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
