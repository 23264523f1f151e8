"""Runs a guest written in the tests' assembler and keeps its rows in memory."""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import riscv_asm

from shstk.schemas.revisions import resolve
from shstk.schemas.tables import TABLES
from shstk.schemas.values import Values, by_name
from shstk.tracer._core import Machine
from shstk.tracer.kernel import loop
from shstk.tracer.kernel.boot import boot
from shstk.tracer.kernel.kernel import Kernel
from shstk.tracer.kernel.tree.sandbox import Sandbox

PAGE = 4096


class Rows:
    """A recorder that keeps the rows of the kernel model and drops those of the executor."""

    keeps = True

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.module_of: Callable[[int, int], int | None] = lambda mm, pc: None

    def add(self, table: str, values: Values) -> None:
        self.row(table, **by_name(table, values))

    def row(self, table: str, /, **columns: Any) -> None:
        names = TABLES[table].names
        assert columns.keys() <= set(names), columns.keys() - set(names)
        self.tables[table].append({name: columns.get(name) for name in names})

    def drain(self, machine: Machine) -> None:
        pass

    def tick(self, machine: Machine) -> None:
        pass

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        return 1

    def file(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Result:
    status: int  # wait status of the first process
    ending: str
    words: list[int]  # written by `report`, from all tasks
    labels: dict[str, int]
    pid: int
    warnings: list[str]
    tables: dict[str, list[dict[str, Any]]]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return sorted(self.tables[table], key=lambda row: row["seq"])


def run(
    text: str,
    kernel: str = "7.2",
    memory: int | None = None,
    *,
    rlimits: dict[str, int] | None = None,
    max_instructions: int = 1_000_000,
    poll: Callable[[], str | None] = lambda: None,
    **options: Any,
) -> Result:
    """Run until all tasks have exited, or for a million instructions. options: Kernel's."""
    machine = Machine(max_frames=memory // PAGE if memory else 0)
    rows, output = Rows(), bytearray()
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "guest")
        program.write_bytes(riscv_asm.program(text))
        sandbox = Sandbox()
        k = Kernel(
            machine,
            rows,
            resolve(kernel),
            sandbox,
            memory=memory,
            stdout_write=lambda fd, data: output.extend(data),
            **options,
        )
        boot(k, sandbox.place(str(program)), (b"guest",), (), rlimits or {})
        pid = k.first.pid
        ending = loop.run(k, max_instructions, poll)
    words = [word for (word,) in struct.iter_unpack("<Q", output)]
    return Result(
        k.first.exit_status if k.first.exit_status is not None else -1,
        ending,
        words,
        riscv_asm.labels(text),
        pid,
        k.warnings,
        rows.tables,
    )
