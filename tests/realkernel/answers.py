"""The probe's output on a real kernel and in the model, normalised for comparison.

These fields don't depend on the kernel's rules and are normalised:

- addresses near the stack: replaced by the distance from the first one in the scenario;
- addresses in program text: `addr_is` has whether si_addr is the pc;
- thread ids; VmFlags other than `ss`; the probe's own instruction offsets; the kernel's release and
  build, and the CPU's other extensions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shstk.tracer.record import RecordOptions, record

HERE = Path(__file__).parent
PROBE = HERE.parent.parent / "fixtures/bin/probe.elf"
MEMORY = 512 << 20  # of the machine that the real kernels ran on

Line = dict[str, Any]

_HIGH = re.compile(r"0x7f[0-9a-f]{10}")
_DROPPED = {
    "tid": "ids of tasks",
    "pc": "the probe's text",
    "insn_off": "the probe's text",
    "release": "the kernel's name",
    "version": "the kernel's build",
    "ima_ext_0": "every extension of QEMU's CPU; zicfilp stands apart",
    "ima_ext_1": "the same; zicfiss stands apart",
}


def from_kernel(name: str) -> dict[str, list[Line]]:
    """Scenario → lines of a JSONL file. An exec'ed image's lines belong to the exec scenario."""
    scenarios: dict[str, list[Line]] = {}
    lines: list[Line] = []
    for text in (HERE / name).read_text().splitlines():
        line = json.loads(text)
        tag = line.get("tag")
        if tag in ("from_thread", "clone_vm_exec"):  # scenarios without lines of their own
            lines = scenarios.setdefault(tag, [])
        lines.append(line)
        if line["e"] == "test_end":
            scenarios[line["t"]] = lines
            lines = []
    return scenarios


def from_model(scenario: str, kernel: str, run: Path, **options: Any) -> list[Line]:
    """The probe's lines for one scenario under `kernel`, recorded into `run`."""
    said = bytearray()
    result = record(
        RecordOptions(
            program=str(PROBE),
            argv=(scenario,),
            out=run,
            kernel=kernel,
            memory=MEMORY,
            on_output=lambda fd, data: said.extend(data),
            **options,
        )
    )
    assert (result.ending, result.exit_status) == ("exited", 0), (result, said.decode())
    return [json.loads(text) for text in said.decode().splitlines()]


def normalised(lines: Iterable[Line]) -> list[Line]:
    result, anchor = [], None
    for line in lines:
        if line["e"] == "after_exec" or (line["t"], line["e"]) == ("exec", "ssvmas"):
            anchor = None  # another image; the parent again
        for value in _strings(line):
            if anchor is None and _HIGH.fullmatch(value):
                anchor = int(value, 16)
        result.append({key: _field(key, line, anchor) for key in line if key not in _DROPPED})
    return result


def without_distances(lines: Iterable[Line]) -> list[Line]:
    """Lines without distances, for a kernel whose huge pages move and align stacks."""
    return [_without_distances(line) for line in lines]


def _without_distances(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_distances(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_distances(v) for v in value]
    return "address" if isinstance(value, str) and value.startswith("first") else value


def _field(key: str, line: Line, anchor: int | None) -> Any:
    value = line[key]
    if key == "rc" and line["e"].startswith("thread_clone") and value > 0:
        return "tid"
    if key in ("si_addr", "addr") and not _HIGH.fullmatch(value):
        # at the top: 0 - 8; in the middle: where the probe has no mapping
        return value if int(value, 16) >= 1 << 28 else "text"
    if key == "v" and isinstance(value, list):
        return [
            [_relative(start, anchor), _relative(end, anchor), perm, "ss" in flags.split(), rss]
            for start, end, perm, flags, rss in value
        ]
    return _relative(value, anchor) if isinstance(value, str) else value


def _relative(value: str, anchor: int | None) -> str:
    if anchor is None or not _HIGH.fullmatch(value):
        return value
    return f"first{int(value, 16) - anchor:+#x}"


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
