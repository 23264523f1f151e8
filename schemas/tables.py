"""Every table of a run: columns, types, units, one doc line each. Facts, never judgements.

Types: u8 u32 u64 i32 i64 bool str bytes, or `kind` (a dictionary-encoded string whose words stand
in `vocabulary`). `?` marks a column that may be null: unknown or not applicable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas import vocabulary as words

if TYPE_CHECKING:
    import pyarrow as pa

# Raise it whenever a table, column, type or word changes (a test compares a fingerprint).
SCHEMA_VERSION: Final = 2


@dataclass(frozen=True)
class Column:
    name: str
    type: str
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
    name: str
    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


_SEQ = Column("seq", "u64", "position of the event in the run: icount * 2**20 + n")
_TID = Column("tid", "u32?", "the task")
_MM = Column("mm", "u32?", "the address space the task has at that moment")
_DURING = Column(
    "during", "u64?", "seq of the syscall, clone attempt or task event inside which it happened"
)


def _table(name: str, doc: str, *columns: tuple[str, str, str] | Column) -> Table:
    made = tuple(c if isinstance(c, Column) else Column(*c) for c in columns)
    return Table(name, doc, (_SEQ, _TID, _MM, *made))


def _kind(name: str, doc: str, kinds: tuple[str, ...], type: str = "kind") -> Column:
    return Column(name, type, doc, kinds)


_ALL = (
    _table(
        "task_events",
        "a step in a task's life",
        _kind("kind", "which step", words.TASK_EVENT_KINDS),
        ("ssp", "u64?", "csr ssp as the hart held it"),
        ("pc", "u64?", "pc as the hart held it"),
        ("addr", "u64?", "the address concerned: clear_child_tid, futex_wake"),
        (
            "value",
            "u64?",
            "created, reaped: the parent's tid (null for the first task); futex_wake: tasks woken;"
            " clear_child_tid: the word written; vfork_done: the parent's tid;"
            " mm_dropped: users left",
        ),
        ("status", "i32?", "exit_begin, reaped: the wait status; exec_done: 0 or -errno"),
    ),
    _table(
        "clones",
        "one attempt to make a task, failed ones too; seq is its syscall's",
        _kind("api", "the call", words.CLONE_APIS),
        ("seq_end", "u64?", "when the attempt ended in the parent; null if it never did"),
        ("flags", "u64", "flags as the caller gave them (clone: without the exit signal)"),
        ("stack", "u64", "the child's stack argument (clone3: its lowest byte)"),
        ("stack_size", "u64", "clone3's stack_size; 0 for the others"),
        ("tls", "u64", "the tls argument"),
        ("parent_tid", "u64", "the parent_tid pointer"),
        ("child_tid_addr", "u64", "the child_tid pointer"),
        ("set_tid", "u32?", "the tid asked for in the innermost pid namespace, if any"),
        ("exit_signal", "u32", "the signal to the parent at exit"),
        ("child_tid", "u32?", "the child's tid; null if none came to be"),
        ("ret", "i64?", "what the parent got: tid or -errno; null if it never returned"),
    ),
    _table(
        "mms",
        "an address space; tid is the task that got it",
        ("from_mm", "u32?", "the address space it was copied from, or replaced"),
        _kind("cause", "how it came to be", words.MM_CAUSES),
        ("seq_end", "u64?", "when its last user dropped it; null if the run ended before"),
    ),
    _table(
        "syscalls",
        "one system call",
        ("seq_end", "u64?", "when it returned (or ended otherwise); null if the run ended first"),
        ("nr", "u64", "a7"),
        Column("name", "str?", "the call's name; null if the number has none"),
        *((f"a{i}", "u64", f"argument {i}, raw") for i in range(6)),
        ("ret", "i64?", "a0 at return; null if it did not return"),
        _kind("outcome", "how it ended", words.SYSCALL_OUTCOMES),
        ("pc", "u64?", "address of the ecall"),
        ("sp", "u64?", "sp at entry"),
        ("ssp_entry", "u64?", "csr ssp at entry"),
        ("ssp_exit", "u64?", "csr ssp at return"),
        ("state_hash", "u64?", "hash over x, f, fcsr, ssp, elp, pc at return"),
    ),
    _table(
        "mappings",
        "one operation on an address space, failed ones too",
        _kind("op", "the operation", words.MAPPING_OPS),
        _DURING,
        ("hint", "u64?", "the address asked for (0: the kernel chooses)"),
        ("start", "u64?", "first byte; null if the operation failed before it was known"),
        ("length", "u64", "bytes, page-aligned unless the operation failed"),
        ("old_start", "u64?", "remap: where the bytes were"),
        ("old_length", "u64?", "remap: how many bytes were there"),
        ("prot", "u32?", "PROT_* bits; null for unmap, remap and discard"),
        ("flags", "u32?", "MAP_* bits (map), MREMAP_* (remap), the advice (discard)"),
        (
            "shadow_stack",
            "bool",
            "map: made with VM_SHADOW_STACK; else: the range touched an area that was",
        ),
        ("input", "u32?", "the file mapped (inputs.input)"),
        ("offset", "u64?", "offset in that file, bytes"),
        ("ret", "i64", "the address (map, remap), 0, or -errno"),
    ),
    _table(
        "kernel_memory",
        "bytes the kernel put into or took from guest memory",
        _DURING,
        _kind("op", "direction", words.KERNEL_MEMORY_OPS),
        ("addr", "u64", "first byte"),
        ("bytes", "bytes", "the bytes; swap: the 8 old ones, then the 8 new ones"),
    ),
    _table(
        "cfi",
        "one shadow-stack or landing-pad event with xSSE or xLPE on, faulting ones too",
        ("pc", "u64", "address of the instruction"),
        _kind("kind", "which", words.CFI_KINDS),
        ("addr", "u64?", "memory address; null for ssrdp, ssp_read, ssp_write, lpad"),
        (
            "value",
            "u64?",
            "pushed, loaded or written; ssrdp, ssp_read: read; lpad: its label"
            " (0xffffffff: no lpad stood there)",
        ),
        (
            "operand",
            "u64?",
            "sspopchk: the register compared; ssamoswap: the old word; lpad: x7[31:12]",
        ),
        ("ssp_before", "u64", "csr ssp before"),
        ("ssp_after", "u64", "csr ssp after"),
        ("fault", "u8?", "exception cause, if it trapped"),
    ),
    _table(
        "signals",
        "one delivery (to a handler), return from one, or death by one",
        _kind("kind", "which", words.SIGNAL_KINDS),
        ("signo", "u32?", "signal number; null for sigreturn"),
        ("code", "i32?", "si_code"),
        ("si_addr", "u64?", "si_addr of a fault signal"),
        ("sender", "u32?", "tid or pid of the sender, if a task sent it"),
        ("handler", "u64?", "address of the handler"),
        ("frame", "u64?", "address of the frame (sp)"),
        ("ss_ptr", "u64?", "the shadow-stack pointer stored in, or read from, the frame"),
        ("token_addr", "u64?", "where the token was pushed, or looked for"),
        ("token_value", "u64?", "the token pushed, or the word found"),
        ("ssp_before", "u64?", "csr ssp before"),
        ("ssp_after", "u64?", "csr ssp after"),
        ("alt_stack", "bool?", "the frame is on the alternate stack"),
        ("sigreturn_seq", "u64?", "sigreturn: seq of the rt_sigreturn call"),
    ),
    _table(
        "faults",
        "one exception",
        ("pc", "u64", "address of the instruction"),
        ("word", "u32?", "the instruction; null if it could not be fetched"),
        ("cause", "u8", "scause"),
        ("tval", "u64", "stval"),
        ("address", "u64?", "data address of the access"),
        ("expected", "u64?", "sspopchk: the word at ssp; lpad: x7[31:12]"),
        ("found", "u64?", "sspopchk: the register; lpad: the label found"),
        ("signo", "u32?", "the signal it became"),
        ("code", "i32?", "its si_code"),
        ("si_addr", "u64?", "its si_addr"),
    ),
    _table(
        "sched",
        "one switch; tid and mm are the task switched to",
        ("from_tid", "u32?", "the task that ran before"),
        _kind("why", "why the other stopped", words.SCHED_WHYS),
        ("state_hash", "u64?", "hash over the registers of the task switched to"),
    ),
    _table(
        "code",
        "a basic block, when it first ran",
        ("block", "u32", "its number"),
        ("module", "u32?", "the module it lies in"),
        ("pc", "u64", "its first instruction"),
        ("length", "u32", "bytes"),
        ("bytes", "bytes", "its instructions"),
    ),
    _table("flow", "which blocks ran", ("block", "u32", "code.block")),
    _table(
        "modules",
        "a file mapped as code",
        ("module", "u32", "its number"),
        ("path", "str", "path in the guest"),
        ("input", "u32?", "inputs.input"),
        ("bias", "u64", "address minus ELF virtual address"),
        ("build_id", "str?", "NT_GNU_BUILD_ID, hex"),
    ),
    _table(
        "inputs",
        "a file whose bytes or metadata the guest saw",
        ("input", "u32", "its number"),
        ("guest_path", "str", "path in the guest"),
        ("sha256", "str", "hash of the bytes, which lie in files/<sha256>"),
        ("size", "u64", "bytes"),
        ("mode", "u32", "st_mode as the guest saw it"),
        ("first_seq", "u64", "when it was first seen"),
    ),
    _table(
        "tree",
        "a question that the guest's file system asked of the host, once each, and the answer: the"
        " program can be executed again with these",
        ("tree", "u32", "which of manifest.trees, from 0"),
        _kind(
            "op",
            "mode: is it there, and what; names: of a directory; read: of a file; target: of a"
            " symbolic link",
            words.TREE_OPS,
        ),
        ("path", "bytes", "beneath the tree's top, which is empty"),
        ("mode", "u32?", "op mode: st_mode; null: nothing is there"),
        (
            "sha256",
            "str?",
            "other ops: hash of the answer, which lies in files/<sha256>: bytes, a target, or"
            " sorted names each ended by a NUL; null: refused",
        ),
    ),
    _table(
        "typed",
        "what was typed at the guest's terminal, each time it had to wait for it",
        ("bytes", "bytes", "the bytes; none: the end of input"),
    ),
    _table(
        "output",
        "what the guest wrote to standard output and standard error",
        ("fd", "i32", "1 or 2"),
        ("bytes", "bytes", "the bytes"),
    ),
    _table(
        "insn",
        "one instruction (only with --trace insn, or by executing again)",
        ("pc", "u64", "its address"),
        ("word", "u32", "the instruction; compressed ones have 16 bits"),
        ("rd", "u8?", "register written: 0..31 x, 32..63 f, 64..95 v"),
        ("rd_value", "u64?", "its new value; of a vector register the low 64 bits"),
        ("mem_addr", "u64?", "address of its memory access"),
        ("mem_value", "u64?", "value loaded or stored"),
        ("mem_size", "u8?", "bytes accessed"),
        ("ssp", "u64", "csr ssp after"),
    ),
)
TABLES: Final[dict[str, Table]] = {t.name: t for t in _ALL}

FINDINGS: Final = Table(
    "findings",
    "what a rule says of a run",
    (
        Column("rule", "str", "stable id, such as A5"),
        Column("slug", "str", "its name, such as thread-gets-own-stack"),
        Column("severity", "kind", "how bad a violation is", words.SEVERITIES),
        Column("outcome", "kind", "violated, satisfied or not evaluated", words.OUTCOMES),
        Column("kernel", "str", "the revision judged by"),
        Column("doubtful", "bool", "no source confirms a value of that revision that it rests on"),
        Column("checked", "u64?", "how many instances the rule judged; null: not evaluated"),
        Column("why", "str?", "why it was not evaluated"),
        Column("seq", "u64?", "where"),
        Column("tid", "u32?", "whose"),
        Column("mm", "u32?", "in which address space"),
        Column("addr", "u64?", "the address concerned"),
        Column("expected", "str?", "what should have been"),
        Column("actual", "str?", "what was"),
        Column("note", "str?", "the violation in words"),
        Column("evidence", "list[u64]", "seqs of the events that show it"),
        Column("source", "str", "where the rule stands"),
    ),
)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's Arrow schema, doc lines as field metadata under `doc`."""
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
            pa.field(c.name, types[c.base], nullable=c.nullable, metadata={"doc": c.doc})
            for c in table.columns
        ],
        metadata={"table": table.name, "doc": table.doc, "schema_version": str(SCHEMA_VERSION)},
    )
