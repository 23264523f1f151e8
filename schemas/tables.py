"""Every table of a run: columns with type, unit and one doc line each. Facts, never judgements.

Types: u8 u32 u64 i32 i64 bool str bytes, or `kind` (a dictionary-encoded string; `vocabulary` lists
its words). `?` marks a column that may be null: unknown or not applicable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas import vocabulary as words
from shstk.schemas.units import Unit

if TYPE_CHECKING:
    import pyarrow as pa

# Raise it whenever a table, column, type or word changes (a test compares a fingerprint).
SCHEMA_VERSION: Final = 5


class Column(NamedTuple):
    name: str
    type: str
    unit: Unit
    doc: str
    kinds: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        return self.type.removesuffix("?")

    @property
    def nullable(self) -> bool:
        return self.type.endswith("?")


@dataclass(frozen=True)
class Table:
    """trace: for a table of the executor, the word of --trace that records it. Its rows are written
    in seq order, each with the seq of its instruction. None: the kernel model writes the table."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    trace: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def units(self) -> dict[str, Unit]:
        return {c.name: c.unit for c in self.columns}

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


# The first columns of every table.
_COMMON: Final = (
    Column("seq", "u64", "seq", "position of the event in the run: icount * 2**20 + n"),
    Column("tid", "u32?", "pid", "the task"),
    Column("mm", "u32?", "number", "the task's address space at that moment"),
)
_DURING = Column(
    "during",
    "u64?",
    "seq",
    "seq of the syscall, clone attempt or task event inside which it happened",
)


def _table(
    name: str,
    doc: str,
    *columns: tuple[str, str, Unit, str] | Column,
    trace: str | None = None,
) -> Table:
    made = tuple(c if isinstance(c, Column) else Column(*c) for c in columns)
    return Table(name, doc, (*_COMMON, *made), trace)


# x1 to x31 by their ABI names.
REGISTERS: Final = (
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1",
    *(f"a{n}" for n in range(8)), *(f"s{n}" for n in range(2, 12)), "t3", "t4", "t5", "t6",
)  # fmt: skip


def _kind(name: str, doc: str, kinds: tuple[str, ...], type: str = "kind") -> Column:
    return Column(name, type, "kind", doc, kinds)


_ALL = (
    _table(
        "task_events",
        "a step in a task's lifetime",
        _kind("kind", "which step", words.TASK_EVENT_KINDS),
        ("ssp", "u64?", "address", "csr ssp of the hart"),
        ("pc", "u64?", "address", "pc of the hart"),
        ("addr", "u64?", "address", "the address concerned: clear_child_tid, futex_wake"),
        (
            "value",
            "u64?",
            "value",
            "created, reaped: the parent's tid (null for the first task); futex_wake: tasks woken;"
            " clear_child_tid: the word written; vfork_done: the parent's tid;"
            " mm_dropped: users left",
        ),
        ("status", "i32?", "result", "exit_begin, reaped: the wait status; exec_done: 0 or -errno"),
    ),
    _table(
        "clones",
        "one attempt to create a task, failed ones too; seq is its syscall's",
        _kind("api", "the call", words.CLONE_APIS),
        ("seq_end", "u64?", "seq", "when the attempt ended in the parent; null if it never did"),
        ("flags", "u64", "bits", "flags as the caller gave them (clone: without the exit signal)"),
        ("stack", "u64", "address", "the child's stack argument (clone3: its lowest byte)"),
        ("stack_size", "u64", "size", "clone3's stack_size; 0 for the others"),
        ("tls", "u64", "address", "the tls argument"),
        ("parent_tid", "u64", "address", "the parent_tid pointer"),
        ("child_tid_addr", "u64", "address", "the child_tid pointer"),
        ("set_tid", "u32?", "pid", "the tid requested in the innermost pid namespace, if any"),
        ("exit_signal", "u32", "number", "the signal to the parent at exit"),
        ("child_tid", "u32?", "pid", "the child's tid; null if none was created"),
        ("ret", "i64?", "result", "what the parent got: tid or -errno; null if it never returned"),
    ),
    _table(
        "mms",
        "an address space; tid is the task that got it",
        ("from_mm", "u32?", "number", "the address space it was copied from, or replaced"),
        _kind("cause", "how it was created", words.MM_CAUSES),
        ("seq_end", "u64?", "seq", "when its last user dropped it; null if the run ended first"),
    ),
    _table(
        "syscalls",
        "one system call",
        (
            "seq_end",
            "u64?",
            "seq",
            "when it returned or otherwise ended; null: it did not",
        ),
        ("nr", "u64", "number", "a7"),
        Column("name", "str?", "name", "the call's name; null if the number has none"),
        *((f"a{i}", "u64?", "value", f"argument {i}, raw; null: not observed") for i in range(6)),
        ("ret", "i64?", "result", "a0 at return; null if it did not return"),
        _kind("outcome", "how it ended", words.SYSCALL_OUTCOMES),
        ("pc", "u64?", "address", "address of the ecall"),
        ("sp", "u64?", "address", "sp at entry"),
        ("ssp_entry", "u64?", "address", "csr ssp at entry"),
        ("ssp_exit", "u64?", "address", "csr ssp at return"),
        ("state_hash", "u64?", "hash", "hash over x, f, fcsr, ssp, elp, pc at return"),
    ),
    _table(
        "mappings",
        "one operation on an address space, failed ones too",
        _kind("op", "the operation", words.MAPPING_OPS),
        _DURING,
        ("hint", "u64?", "address", "the address requested (0: the kernel chooses)"),
        ("start", "u64?", "address", "first byte; null if it failed before it was known"),
        ("length", "u64", "size", "bytes, page-aligned unless the operation failed"),
        ("old_start", "u64?", "address", "remap: where the bytes were"),
        ("old_length", "u64?", "size", "remap: how many bytes were there"),
        ("prot", "u32?", "bits", "PROT_* bits; null for unmap, remap and discard"),
        ("flags", "u32?", "bits", "MAP_* bits (map), MREMAP_* (remap), the advice (discard)"),
        (
            "shadow_stack",
            "bool",
            "truth",
            "map: made with VM_SHADOW_STACK; else: the range touched an area that was",
        ),
        ("input", "u32?", "number", "the file mapped (inputs.input)"),
        ("offset", "u64?", "offset", "offset in that file, bytes"),
        ("ret", "i64", "result", "the address (map, remap), 0, or -errno"),
    ),
    _table(
        "kernel_memory",
        "bytes the kernel wrote to or read from guest memory",
        _DURING,
        _kind("op", "direction", words.KERNEL_MEMORY_OPS),
        ("addr", "u64", "address", "first byte"),
        ("bytes", "bytes", "data", "the bytes; swap: the 8 old ones, then the 8 new ones"),
    ),
    _table(
        "cfi",
        "one shadow-stack or landing-pad event with xSSE or xLPE on, faulting ones too",
        ("pc", "u64", "address", "address of the instruction"),
        _kind("kind", "which", words.CFI_KINDS),
        ("addr", "u64?", "address", "memory address; null for ssrdp, ssp_read, ssp_write, lpad"),
        (
            "value",
            "u64?",
            "value",
            "pushed, loaded or written; ssrdp, ssp_read: read; lpad: its label"
            " (0xffffffff: there was no lpad)",
        ),
        (
            "operand",
            "u64?",
            "value",
            "sspopchk: the register compared; ssamoswap: the old word; lpad: x7[31:12]",
        ),
        ("ssp_before", "u64", "address", "csr ssp before"),
        ("ssp_after", "u64", "address", "csr ssp after"),
        ("fault", "u8?", "number", "exception cause, if it trapped"),
        trace="cfi",
    ),
    _table(
        "signals",
        "one signal delivered to a handler, sigreturn, or death by a signal",
        _kind("kind", "which", words.SIGNAL_KINDS),
        ("signo", "u32?", "number", "signal number; null for sigreturn"),
        ("code", "i32?", "number", "si_code"),
        ("si_addr", "u64?", "address", "si_addr of a fault signal"),
        ("sender", "u32?", "pid", "tid or pid of the sender, if a task sent it"),
        ("handler", "u64?", "address", "address of the handler"),
        ("frame", "u64?", "address", "address of the frame (sp)"),
        ("ss_ptr", "u64?", "address", "the shadow-stack pointer written to or read from the frame"),
        ("token_addr", "u64?", "address", "where the token was pushed, or expected"),
        ("token_value", "u64?", "value", "the token pushed, or the word found"),
        ("ssp_before", "u64?", "address", "csr ssp before"),
        ("ssp_after", "u64?", "address", "csr ssp after"),
        ("alt_stack", "bool?", "truth", "the frame is on the alternate stack"),
        ("sigreturn_seq", "u64?", "seq", "sigreturn: seq of the rt_sigreturn call"),
    ),
    _table(
        "faults",
        "one exception",
        ("pc", "u64", "address", "address of the instruction"),
        ("word", "u32?", "bits", "the instruction; null if it could not be fetched"),
        ("cause", "u8", "number", "scause"),
        ("tval", "u64", "value", "stval"),
        ("address", "u64?", "address", "data address of the access"),
        ("expected", "u64?", "value", "sspopchk: the word at ssp; lpad: x7[31:12]"),
        ("found", "u64?", "value", "sspopchk: the register; lpad: the label found"),
        ("signo", "u32?", "number", "the signal it raised"),
        ("code", "i32?", "number", "its si_code"),
        ("si_addr", "u64?", "address", "its si_addr"),
    ),
    _table(
        "sched",
        "one switch; tid and mm are the task switched to",
        ("from_tid", "u32?", "pid", "the task that ran before"),
        _kind("why", "why the previous task stopped", words.SCHED_WHYS),
        ("state_hash", "u64?", "hash", "hash over the registers of the task switched to"),
    ),
    _table(
        "code",
        "a basic block, when it first ran",
        ("block", "u32", "number", "its number"),
        ("module", "u32?", "number", "the module it is in"),
        ("pc", "u64", "address", "its first instruction"),
        ("length", "u32", "count", "bytes"),
        ("bytes", "bytes", "data", "its instructions"),
        trace="flow",
    ),
    _table("flow", "which blocks ran", ("block", "u32", "number", "code.block"), trace="flow"),
    _table(
        "modules",
        "a file mapped as code",
        ("module", "u32", "number", "its number"),
        ("path", "str", "path", "path in the guest"),
        ("input", "u32?", "number", "inputs.input"),
        ("bias", "u64", "address", "address minus ELF virtual address"),
        ("build_id", "str?", "hash", "NT_GNU_BUILD_ID, hex"),
    ),
    _table(
        "inputs",
        "a file whose bytes or metadata the guest saw",
        ("input", "u32", "number", "its number"),
        ("guest_path", "str", "path", "path in the guest"),
        ("sha256", "str", "hash", "hash of the bytes, which are in files/<sha256>"),
        ("size", "u64", "count", "bytes"),
        ("mode", "u32", "mode", "st_mode as the guest saw it"),
        ("first_seq", "u64", "seq", "when it was first seen"),
    ),
    _table(
        "tree",
        "a query by the guest's file system to the host, recorded once, and its result; replay"
        " reads these instead of the host",
        ("tree", "u32", "number", "which of manifest.trees, from 0"),
        _kind(
            "op",
            "mode: existence and type; names: of a directory; read: of a file; target: of a"
            " symbolic link",
            words.TREE_OPS,
        ),
        ("path", "bytes", "path", "relative to the tree's top, whose path is empty"),
        ("mode", "u32?", "mode", "op mode: st_mode; null: it does not exist"),
        (
            "sha256",
            "str?",
            "hash",
            "other ops: hash of the result, which is in files/<sha256>: bytes, a target, or"
            " sorted names, each terminated by a NUL; null: refused",
        ),
    ),
    _table(
        "typed",
        "input typed at the guest's terminal, each time a task had to wait for it",
        ("bytes", "bytes", "data", "the bytes; none: the end of input"),
    ),
    _table(
        "output",
        "output of the guest to standard output and standard error",
        ("fd", "i32", "number", "1 or 2"),
        ("bytes", "bytes", "data", "the bytes"),
    ),
    _table(
        "dump_threads",
        "a thread of a dumped process, as it stood",
        ("pc", "u64", "address", "pc"),
        ("ssp", "u64?", "address", "csr ssp; null: its shadow stack was off, or the dump has none"),
        ("cfi", "u64?", "bits", "cfi_state of NT_RISCV_USER_CFI; null: the dump has none"),
        ("ra", "u64", "value", "x1"),
        ("sp", "u64", "address", "x2"),
        *((name, "u64", "value", f"x{n}") for n, name in enumerate(REGISTERS[2:], 3)),
    ),
    _table(
        "dump_areas",
        "an area of a dumped process's address space, as it stood",
        ("start", "u64", "address", "first byte"),
        ("length", "u64", "size", "bytes"),
        ("prot", "u32", "bits", "PROT_* bits"),
        _kind(
            "shadow_stack",
            "how it is known to be one: a thread's ssp lies in it, or a guess from its words;"
            " null: it is not known to be one",
            words.SHADOW_STACK_SIGNS,
            type="kind?",
        ),
        ("name", "str?", "path", "the file mapped, [vdso] or [stack]; null: anonymous memory"),
        ("input", "u32?", "number", "that file, if its bytes are known (inputs.input)"),
        ("offset", "u64?", "offset", "offset in that file, bytes"),
        ("dumped", "u64", "size", "how many of its first bytes the dump has"),
    ),
    _table(
        "dump_memory",
        "bytes of memory that a dump has: of the stacks, and code at return addresses",
        ("addr", "u64", "address", "first byte"),
        ("length", "u64", "size", "how many bytes"),
        ("bytes", "bytes?", "data", "the bytes; null: zeros"),
    ),
    _table(
        "insn",
        "one instruction; `shstk replay` regenerates them for a run recorded without",
        ("pc", "u64", "address", "its address"),
        ("word", "u32", "bits", "the instruction; compressed ones have 16 bits"),
        ("rd", "u8?", "number", "register written: 0..31 x, 32..63 f, 64..95 v"),
        ("rd_value", "u64?", "value", "its new value; of a vector register the low 64 bits"),
        ("mem_addr", "u64?", "address", "address of its memory access"),
        ("mem_value", "u64?", "value", "value loaded or stored"),
        ("mem_size", "u8?", "count", "bytes accessed"),
        ("ssp", "u64", "address", "csr ssp after"),
        trace="insn",
    ),
)
TABLES: Final[dict[str, Table]] = {t.name: t for t in _ALL}

# The tables of a dump: one moment of a process. No recorder that sees events has rows in them.
DUMPED: Final = ("dump_threads", "dump_areas", "dump_memory")
# The tables of the executor.
TRACED: Final = tuple(t.name for t in _ALL if t.trace)
# The words of --trace, each the name of a table; `code` is recorded with flow, which refers to it.
TRACES: Final = tuple(dict.fromkeys(t.trace for t in _ALL if t.trace))
# The words of --trace whose tables can be made later, by executing the run again.
DERIVABLE: Final = ("cfi", "flow")
# The word of --trace that keeps each of DERIVABLE while it has no more than FEW rows.
AUTO: Final = "auto"
FEW: Final = 2**18
DEFAULT_TRACE: Final = (AUTO,)
# Bytes on disk at which a recording ends: hours of a busy program, and less than most disks have.
MAX_SIZE: Final = 8 << 30
# The tables that can be recorded for a part of a run. Block numbers depend on all blocks before it.
WINDOWED: Final = tuple(t.name for t in _ALL if t.trace and "block" not in t.names)


def tables_of(words: Iterable[str]) -> tuple[str, ...]:
    """The tables that words of --trace record."""
    chosen = {*words}
    return tuple(t.name for t in _ALL if t.trace in chosen)


FINDINGS: Final = Table(
    "findings",
    "a rule's result for a run",
    (
        Column("rule", "str", "name", "stable id, such as A5"),
        Column("slug", "str", "name", "its name, such as thread-gets-own-stack"),
        Column("severity", "kind", "kind", "how bad a violation is", words.SEVERITIES),
        Column(
            "outcome",
            "kind",
            "kind",
            "violated, satisfied, not evaluated, or a deviation of the emulator",
            words.OUTCOMES,
        ),
        Column("kernel", "str", "name", "the revision judged by"),
        Column("doubtful", "bool", "truth", "it depends on a value that no source confirms"),
        Column("checked", "u64?", "count", "how many instances were judged; null: not evaluated"),
        Column("why", "str?", "text", "why it, or else a part of it, was not evaluated"),
        Column("seq", "u64?", "seq", "where"),
        Column("tid", "u32?", "pid", "whose"),
        Column("mm", "u32?", "number", "in which address space"),
        Column("addr", "u64?", "address", "the address concerned"),
        Column("expected", "str?", "text", "the expected value"),
        Column("actual", "str?", "text", "the actual value"),
        Column("note", "str?", "text", "the violation in words"),
        Column("evidence", "list[u64]", "seq", "seqs of the events that show it"),
        Column("source", "str", "text", "the rule's source"),
    ),
)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's Arrow schema; field metadata holds each column's `doc` and `unit`."""
    import pyarrow as pa

    types = {
        "u8": pa.uint8(),
        "u32": pa.uint32(),
        "u64": pa.uint64(),
        "i32": pa.int32(),
        "i64": pa.int64(),
        "bool": pa.bool_(),
        "str": pa.string(),
        "bytes": pa.binary(),
        "kind": pa.dictionary(pa.int8(), pa.string()),
        "list[u64]": pa.list_(pa.uint64()),
    }
    return pa.schema(
        [
            pa.field(
                c.name, types[c.base], nullable=c.nullable, metadata={"doc": c.doc, "unit": c.unit}
            )
            for c in table.columns
        ],
        metadata={"table": table.name, "doc": table.doc, "schema_version": str(SCHEMA_VERSION)},
    )
