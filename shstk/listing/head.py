"""The head of a listing: kernel, limits, ending. It becomes the manifest."""

from __future__ import annotations

from typing import Any

from shstk.listing.values import BadValue, Names
from shstk.schemas import uapi
from shstk.schemas import vocabulary as kinds
from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import CPUS, DEFAULT_CPU
from shstk.schemas.machine import ABIS, QUANTUM
from shstk.schemas.manifest import U64, Manifest, Provenance, Rlimit, TreeEntry
from shstk.schemas.revisions import DEFAULT_REVISION, resolve
from shstk.schemas.selections import SELECTED, table_of
from shstk.schemas.tables import TABLES, TRACES
from shstk.schemas.version import VERSION


class Head:
    """Reads the lines of the head one by one."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._kernel = resolve(DEFAULT_REVISION)
        self._rlimits = dict.fromkeys(uapi.RLIMITS, (uapi.RLIM_INFINITY, uapi.RLIM_INFINITY))
        self._rlimits["STACK"] = (8 * 2**20, uapi.RLIM_INFINITY)
        self._set: dict[str, Any] = {
            "abi": ABIS[0],
            "cpu": DEFAULT_CPU,
            "nousercfi": False,
            "recorded": False,
            "seed": 0,
            "memory": None,
            "argv": ("listing",),
            "traced": None,
            "ending": "exited",
            "recorder": "listing",
            "observed": None,
            "smp": 1,
        }

    def takes(self, word: str) -> bool:
        return word in self._set or word in ("kernel", "rlimit")

    def line(self, key: str, words: list[str]) -> None:
        """Raises BadValue."""
        if key == "kernel":
            try:
                self._kernel = resolve(_one(key, words))
            except UsageError as e:
                raise BadValue(f"{e.what}; {e.hint}") from e
        elif key == "rlimit":
            for word in words:
                name, _, value = word.partition("=")
                if name not in self._rlimits:
                    raise BadValue(f"no such limit {name!r}: known are {' '.join(uapi.RLIMITS)}")
                soft, _, hard = value.partition(":")
                self._rlimits[name] = (self._limit(soft), self._limit(hard or "infinity"))
        elif key in ("nousercfi", "recorded"):
            self._set[key] = True
        elif key in ("argv", "traced"):
            if not words:
                raise BadValue(f"{key} takes at least one word")
            self._set[key] = tuple(map(self._names.text, words))
            for word in words if key == "traced" else ():
                _among(key, word, TRACES)
        elif key == "observed":
            seen = [_among(key, word, SELECTED) for word in words]
            self._set[key] = {rows: TABLES[table_of(rows)].names for rows in seen}
        elif key in ("seed", "memory", "smp"):
            self._set[key] = self._u64(_one(key, words))
        else:
            known = {
                "abi": ABIS,
                "cpu": CPUS,
                "ending": kinds.ENDINGS,
                "recorder": kinds.RECORDERS,
            }[key]
            self._set[key] = _among(key, _one(key, words), known)

    def _limit(self, text: str) -> int:
        return uapi.RLIM_INFINITY if text == "infinity" else self._u64(text)

    def _u64(self, text: str) -> int:
        number = self._names.number(text)
        if not 0 <= number < 2**64:
            raise BadValue(f"{text} is not a u64")
        return number

    def manifest(
        self, rows: dict[str, list[dict[str, Any]]], first_tid: int, last: int
    ) -> Manifest:
        """rows: the listing's, by table; last: its last seq."""
        chosen = dict(self._set)
        about = {name: chosen.pop(name) for name in ("recorder", "observed", "smp")}
        chosen["traced"] = chosen["traced"] or tuple(t for t in TRACES if t == "cfi" or rows.get(t))
        if chosen.pop("recorded"):
            chosen["trees"] = (TreeEntry("program", f"/{chosen['argv'][0]}", False),)
            if about["recorder"] == "listing":
                about["recorder"] = "model"
        exits = [
            row["status"]
            for row in rows.get("task_events", ())
            if row["kind"] == "exit_begin" and row["tid"] == first_tid
        ]
        return Manifest(
            tool_version=VERSION,
            program=f"/{chosen['argv'][0]}",
            environ=(),
            cwd="/",
            kernel=self._kernel.name,
            switches=self._kernel.settings,
            quantum=QUANTUM,
            rlimits={name: Rlimit(U64(s), U64(h)) for name, (s, h) in self._rlimits.items()},
            page_size=uapi.PAGE,
            auxv=(),
            first_tid=first_tid,
            max_instructions=None,
            timeout=None,
            exit_status=exits[-1] if exits else None,
            icount=U64(last // 2**20),
            recovered_up_to=U64(last) if chosen["ending"] == "recovered" else None,
            provenance=Provenance(**about),
            **chosen,
        )


def _one(key: str, words: list[str]) -> str:
    if len(words) != 1:
        raise BadValue(f"{key} takes one value, not {len(words)}")
    return words[0]


def _among(key: str, word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise BadValue(f"{key}: {word!r} is not one of {' '.join(known)}")
    return word
