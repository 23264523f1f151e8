"""Data for the recorder's tests: a manifest, kernel rows, and a fake executor."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from shstk.schemas.manifest import U64, Manifest
from shstk.schemas.revisions import resolve
from shstk.schemas.seq import pack
from shstk.tracer import _core
from shstk.tracer.recording.recorder import Recorder

MANIFEST = Manifest(
    tool_version="0",
    program="/prog",
    argv=("prog",),
    environ=(),
    cwd="/",
    cpu="rv64gc_zicfiss_zicfilp",
    nousercfi=False,
    kernel="7.2",
    switches=resolve("7.2").settings,
    abi="merged",
    seed=U64(0),
    quantum=(10_000, 50_000),
    rlimits={},
    memory=None,
    page_size=4096,
    auxv=(),
    first_tid=1,
    max_instructions=None,
    timeout=None,
    traced=("cfi",),
    ending="exited",
    exit_status=0,
    icount=U64(100),
)


class FakeMachine:
    """Returns the rows that were put into it, as the executor's buffers do."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, memoryview]] = {}

    def put(self, table: str, rows: Sequence[Sequence[int]]) -> None:
        columns = zip(_core.TABLES[table][1].items(), zip(*rows, strict=True), strict=True)
        self._waiting[table] = {n: memoryview(array(t, values)) for (n, t), values in columns}

    def put_code(self, seq: int, block: int, pc: int, *blocks: bytes) -> None:
        ends = [0]
        for data in blocks:
            ends.append(ends[-1] + len(data))
        n = len(blocks)
        self._waiting["code"] = {
            "seq": memoryview(array("Q", [seq] * n)),
            "tid": memoryview(array("I", [1] * n)),
            "mm": memoryview(array("I", [7] * n)),
            "block": memoryview(array("I", range(block, block + n))),
            "pc": memoryview(array("Q", [pc + end for end in ends[:-1]])),
            "length": memoryview(array("I", map(len, blocks))),
            "bytes_offset": memoryview(array("i", ends)),
            "bytes": memoryview(b"".join(blocks)),
        }

    def pending(self, table: str) -> int:
        return len(self._waiting[table]["seq"]) if table in self._waiting else 0

    def drain(self, table: str) -> dict[str, memoryview]:
        return self._waiting.pop(table)


def push(icount: int, value: int = 0x10234, kind: int = 0, fault: int = 255) -> tuple[int, ...]:
    """A cfi row as the executor writes it."""
    ssp = 0xFFFF_FFFF_0000_0000 - icount * 8
    return (pack(icount, 0), 1, 7, 0x10000, kind, ssp - 8, value, 5, ssp, ssp - 8, fault)


def call(rec: Recorder, icount: int, **columns: object) -> None:
    """A row of syscalls."""
    given = {"seq": pack(icount, 1), "tid": 1, "mm": 7, "nr": 64, "name": "write"}
    arguments = {f"a{i}": 2**64 - 1 - i for i in range(6)}
    rec.row("syscalls", **given | arguments | {"outcome": "returned", "ret": -12} | columns)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {str(f.relative_to(run)): f.read_bytes() for f in run.rglob("*") if f.is_file()}


def chunks(rows: Sequence[object], size: int) -> Iterable[Sequence[object]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))
