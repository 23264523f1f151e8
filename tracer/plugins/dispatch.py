"""What happens, told to the plugins: a recorder before the run's own, and batches at fixed times.

Batches are delivered at multiples of so many instructions, not when a buffer is full or the clock
says so, so that a plugin sees the same in every run of the same guest.
"""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shstk.schemas.errors import BadPlugin, ShstkError, UsageError
from shstk.schemas.rows import to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.plugins import accesses
from shstk.tracer.plugins.interface import (
    Blocks,
    Fault,
    Instructions,
    Memory,
    Module,
    Plugin,
    Rows,
    Syscall,
    View,
    Want,
)
from shstk.tracer.recording.recorder import CORE_TABLES, Buffers, core_batch

if TYPE_CHECKING:
    import pyarrow as pa

    from shstk.tracer.kernel.kernel import Kernel, Recorder
    from shstk.tracer.kernel.task import InCall

T = TypeVar("T", Instructions, Memory, Blocks)

TRACE_BITS: Final = {"cfi": 1, "flow": 2, "insn": 4}  # _core.TRACE_*
_BIT_OF: Final = TRACE_BITS | {"code": 2}
_METHODS: Final = {
    Rows: "on_rows",
    Blocks: "on_blocks",
    Instructions: "on_instructions",
    Memory: "on_memory",
}
# Tables whose rows are told when they are written, and the method that is called.
AT_ONCE: Final = {"syscalls": "on_return", "faults": "on_fault", "modules": "on_module"}
_TABLES: Final = {Blocks: ("code", "flow"), Instructions: ("insn",), Memory: ("insn",)}


@dataclass(frozen=True)
class Finished:
    """table: None if the plugin makes none."""

    name: str
    table: pa.Table | None
    summary: str


class Plugins:
    """The plugins of one run.

    Run the guest with `recorder` and `trace` (_core.TRACE_* bits) in the place of its own, `attach`
    its kernel before it runs, give `alarms` to the loop, and `finish` when it has ended. A plugin
    that raises ends the run: `failure` says how, and is for the caller to raise.

    inner, recorded: the recorder and the bits without plugins. Raises UsageError for two plugins of
    one name, BadPlugin for one that wants what it has no method for.
    """

    def __init__(self, plugins: Sequence[Plugin], inner: Recorder, recorded: int = 0) -> None:
        self.failure: BadPlugin | None = None
        self._plugins = list(plugins)
        self._names = [plugin.name for plugin in plugins]
        for plugin in plugins:
            _check(plugin)
            if self._names.count(plugin.name) > 1:
                raise UsageError(
                    f"two plugins are called {plugin.name}", "give one another: ,name=another"
                )
        self._hearers = {
            method: [p for p in plugins if _defines(p, method)]
            for method in ("on_syscall", *AT_ONCE.values())
        }
        self._kernel: Kernel | None = None
        self._ending = False  # a plugin ends the run
        self._ended = False
        tables = {table for plugin in plugins for want in plugin.wants for table in _tables(want)}
        self.trace = recorded
        for table in tables & _BIT_OF.keys():
            self.trace |= _BIT_OF[table]
        self._tee = _Tee(self, inner, recorded, tables)
        self._blocks = _BlockColumns()
        self.recorder: Recorder = self._tee if plugins else inner

    def attach(self, kernel: Kernel) -> None:
        """The guest stands before its first instruction."""
        self._kernel = kernel
        for plugin in self._plugins:
            plugin.guest = View(kernel)
        if self._hearers["on_syscall"]:
            kernel.on_entry = self._entry
        self._tee.replay()

    def alarms(self) -> Iterator[tuple[int, Callable[[], None]]]:
        """When batches are delivered; never, if nobody wants any."""
        steps = [plugin.every for plugin in self._plugins if plugin.wants]
        return ((n * min(steps), self.deliver) for n in count(1)) if steps else iter(())

    def deliver(self) -> None:
        """Everything since the last time, table by table, to each plugin in turn."""
        assert self._kernel is not None
        batches = self._tee.take(self._kernel.machine)
        if "code" in batches:
            self._blocks.add(batches["code"])
        for plugin in list(self._plugins):
            for what in dict.fromkeys(type(want) for want in plugin.wants):
                self._deliver(plugin, what, batches)

    def _deliver(
        self, plugin: Plugin, what: type[Want], batches: dict[str, pa.RecordBatch]
    ) -> None:
        if what is Rows:
            wanted = dict.fromkeys(w.table for w in plugin.wants if isinstance(w, Rows))
            for table in wanted:
                if table in batches:
                    self._call(plugin, "on_rows", table, batches[table])
            return
        if (source := batches.get(_TABLES[what][-1])) is None:
            return
        if what is Blocks:
            batch = _in_ranges(self._blocks.of(source), plugin, Blocks)
        elif what is Instructions:
            batch = _in_ranges(source, plugin, Instructions)
        else:
            batch = _memory(source, [w for w in plugin.wants if isinstance(w, Memory)])
        if batch.num_rows:
            self._call(plugin, _METHODS[what], batch)

    def finish(self) -> tuple[Finished, ...]:
        """The guest has ended: the last batches, then each plugin's table and summary."""
        self._ended = True
        self.deliver()
        return tuple(self._finish(plugin) for plugin in list(self._plugins))

    def _finish(self, plugin: Plugin) -> Finished:
        import pyarrow as pa

        made = self._call(plugin, "finish")
        try:
            table = made if made is None or isinstance(made, pa.Table) else pa.table(made)
        except (TypeError, ValueError, pa.ArrowException) as error:
            self._fail(plugin, "finish", TypeError(f"this is no table: {error}"))
            table = None
        return Finished(plugin.name, table, self._call(plugin, "summary") or "")

    # What is told at once.

    def _entry(self, call: InCall) -> None:
        told = Syscall(
            call.seq, call.tid, call.mm, call.nr, call.name, call.args, call.pc, call.sp, call.ssp
        )
        for plugin in self._hearers["on_syscall"]:
            self._call(plugin, "on_syscall", told)

    def tell(self, table: str, columns: dict[str, Any], file: bytes) -> None:
        """A row of AT_ONCE. file: the bytes of the input it speaks of."""
        event: Syscall | Fault | Module
        if table == "faults":
            method, event = "on_fault", Fault(**columns)
        elif table == "modules":
            given = {f.name: columns[f.name] for f in fields(Module) if f.name != "data"}
            method, event = "on_module", Module(**given, data=file)
        elif columns["outcome"] == "loader":
            return  # the program never made that call
        else:
            method, event = "on_return", _returned(columns)
        for plugin in self._hearers[method]:
            self._call(plugin, method, event)

    def told_at_once(self) -> frozenset[str]:
        """Tables whose rows `tell` is for."""
        return frozenset(table for table, method in AT_ONCE.items() if self._hearers[method])

    # How a plugin ends the run.

    def _call(self, plugin: Plugin, method: str, *args: Any) -> Any:
        if plugin not in self._plugins:  # it has failed
            return None
        try:
            result = getattr(plugin, method)(*args)
        except (Exception, SystemExit) as error:
            self._fail(plugin, method, error)
            return None
        if plugin.stopped is not None and not self._ending:
            late = " (it had ended by itself)" if self._ended else ""
            self._end(f"plugin {plugin.name} stopped the run: {plugin.stopped}{late}")
        return result

    def _fail(self, plugin: Plugin, method: str, error: BaseException) -> None:
        self._plugins.remove(plugin)
        place = f"plugin {plugin.name} failed in {method}{_where(plugin, error)}"
        if isinstance(error, ShstkError):
            failure = BadPlugin(f"{place}: {error.what}", error.hint)
        else:
            failure = BadPlugin(f"{place}: {_named(error)}")
        failure.__cause__ = error
        self.failure = self.failure or failure
        self._end(place)  # what it said may name files of the host, which no run does

    def _end(self, why: str) -> None:
        assert self._kernel is not None
        self._ending = True
        self._kernel.ending = "stopped"
        self._kernel.warn(why)


class _Tee:
    """The recorder that the kernel sees: everything goes on to the run's, as if it were alone."""

    def __init__(self, plugins: Plugins, inner: Recorder, recorded: int, tables: set[str]) -> None:
        self._plugins = plugins
        self._inner = inner
        self._at_once = plugins.told_at_once()
        self._rows: dict[str, list[dict[str, Any]]] = {t: [] for t in tables - {*CORE_TABLES}}
        self._tap = _Tap(recorded, tables, lambda mm, pc: inner.module_of(mm, pc))
        self._inputs = 0  # the highest number so far
        self._files: dict[int, bytes] = {}
        self._early: list[tuple[str, dict[str, Any]]] | None = []  # told once attached

    @property
    def module_of(self) -> Callable[[int, int], int | None]:
        return self._inner.module_of

    @module_of.setter
    def module_of(self, given: Callable[[int, int], int | None]) -> None:
        self._inner.module_of = given

    def row(self, table: str, /, **columns: Any) -> None:
        self._inner.row(table, **columns)
        if table in self._rows:
            self._rows[table].append(columns)
        if table in self._at_once:
            if self._early is not None:
                self._early.append((table, columns))
            else:
                self._tell(table, columns)

    def replay(self) -> None:
        """Tell what happened before there was a guest to look at."""
        early, self._early = self._early or [], None
        for table, columns in early:
            self._tell(table, columns)

    def _tell(self, table: str, columns: dict[str, Any]) -> None:
        file = self._files.get(columns["input"], b"") if table == "modules" else b""
        self._plugins.tell(table, columns, file)

    def drain(self, machine: Buffers) -> None:
        self._tap.machine = machine
        self._inner.drain(self._tap)
        self._tap.rest()

    def tick(self, machine: Buffers) -> None:
        self._tap.machine = machine
        self._inner.tick(self._tap)

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        number = self._inner.input(guest_path, data, mode, seq)
        if "inputs" in self._rows and number > self._inputs:  # the inner one writes its row itself
            sha256 = hashlib.sha256(data).hexdigest()
            row = {"input": number, "guest_path": guest_path, "sha256": sha256, "mode": mode}
            self._rows["inputs"].append({"seq": seq, "size": len(data), "first_seq": seq, **row})
        self._inputs = max(self._inputs, number)
        if "modules" in self._at_once and data.startswith(b"\x7fELF"):
            self._files[number] = data
        return number

    def file(self, data: bytes) -> str:
        return self._inner.file(data)

    def take(self, machine: Buffers) -> dict[str, pa.RecordBatch]:
        """The rows since the last time, of the tables that are wanted and have any."""
        self._tap.machine = machine
        self._tap.wanted_only = True
        self._inner.drain(self._tap)
        self._tap.rest()
        self._tap.wanted_only = False
        batches = self._tap.take()
        for table, rows in self._rows.items():
            if rows:
                batches[table] = to_batch(TABLES[table], rows)
                rows.clear()
        return batches


class _Tap:
    """The machine's buffers, as the run's recorder sees them: what it drains is kept here too.

    It sees nothing of the tables that are traced for plugins alone.
    """

    machine: Buffers

    def __init__(
        self, recorded: int, tables: set[str], module_of: Callable[[int, int], int | None]
    ) -> None:
        self._recorded = {table for table in CORE_TABLES if recorded & _BIT_OF[table]}
        self.wanted_only = False  # leave what no plugin wants: larger batches are written faster
        self._module_of = module_of
        self._kept: dict[str, list[pa.RecordBatch]] = {t: [] for t in CORE_TABLES if t in tables}

    def pending(self, table: str) -> int:
        seen = table in self._recorded and (table in self._kept or not self.wanted_only)
        return self.machine.pending(table) if seen else 0

    def drain(self, table: str) -> dict[str, memoryview]:
        columns = self.machine.drain(table)
        if table in self._kept:
            modules = None
            if table == "code":
                keys = zip(columns["mm"], columns["pc"], strict=True)
                modules = [self._module_of(mm, pc) for mm, pc in keys]
            self._kept[table].append(core_batch(table, columns, modules))
        return columns

    def rest(self) -> None:
        """Drain what the run's recorder does not see."""
        for table in CORE_TABLES:
            if table not in self._recorded and self.machine.pending(table):
                self.drain(table)

    def take(self) -> dict[str, pa.RecordBatch]:
        import pyarrow as pa

        taken = {}
        for table, kept in self._kept.items():
            if kept:
                taken[table] = pa.concat_batches(kept) if len(kept) > 1 else kept[0]
                kept.clear()
        return taken


class _BlockColumns:
    """What the table code says of every block so far, to be joined to rows of flow."""

    def __init__(self) -> None:
        self._blocks: pa.RecordBatch | None = None  # row n is block n + 1

    def add(self, code: pa.RecordBatch) -> None:
        import pyarrow as pa

        counts = [_instructions(text) for text in code["bytes"].to_pylist()]
        new = pa.record_batch(
            {
                "pc": code["pc"],
                "length": code["length"],
                "instructions": pa.array(counts, pa.uint32()),
                "module": code["module"],
            }
        )
        self._blocks = pa.concat_batches([self._blocks, new]) if self._blocks else new

    def of(self, flow: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow as pa
        import pyarrow.compute as pc

        assert self._blocks is not None
        found = self._blocks.take(pc.subtract(flow["block"], pa.scalar(1, pa.uint32())))
        names = [*flow.schema.names, *found.schema.names]
        return pa.record_batch([*flow.columns, *found.columns], names=names)


def _instructions(text: bytes) -> int:
    """How many instructions a block has: those of 32 bits end in binary 11."""
    at = found = 0
    while at < len(text):
        at += 4 if text[at] & 3 == 3 else 2
        found += 1
    return found


def _in_ranges(rows: pa.RecordBatch, plugin: Plugin, kind: type[T]) -> pa.RecordBatch:
    """Those whose pc is wanted by a want of that kind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen = None
    for want in plugin.wants:
        if not isinstance(want, kind):
            continue
        if want.start <= 0 and want.end >= 2**64:
            return rows
        low = pc.greater_equal(rows["pc"], pa.scalar(want.start, pa.uint64()))
        high = pc.less_equal(rows["pc"], pa.scalar(want.end - 1, pa.uint64()))
        inside = pc.and_(low, high)
        chosen = inside if chosen is None else pc.or_(chosen, inside)
    return rows.filter(chosen)


def _memory(insn: pa.RecordBatch, wants: list[Memory]) -> pa.RecordBatch:
    """The accesses that any of these wants, once each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [
        accesses.accesses(
            insn,
            want.start,
            want.end,
            accesses.READ * want.reads | accesses.WRITE * want.writes,
        )
        for want in wants
    ]
    if len(parts) == 1:
        return parts[0]
    # An instruction accesses memory once, so that its seq says which access it is.
    together = pa.Table.from_batches(parts).sort_by("seq").combine_chunks()
    if not together.num_rows:
        return parts[0]
    seqs = together["seq"].chunk(0)
    new = pc.not_equal(seqs[1:], seqs[:-1])
    return together.filter(pa.concat_arrays([pa.array([True]), new])).to_batches()[0]


def _returned(row: dict[str, Any]) -> Syscall:
    return Syscall(
        seq=row["seq"],
        tid=row["tid"],
        mm=row["mm"],
        nr=row["nr"],
        name=row["name"],
        args=(row["a0"], row["a1"], row["a2"], row["a3"], row["a4"], row["a5"]),
        pc=row["pc"],
        sp=row["sp"],
        ssp=row["ssp_entry"],
        seq_end=row["seq_end"],
        outcome=row["outcome"],
        ret=row["ret"],
    )


def _tables(want: Want) -> tuple[str, ...]:
    return (want.table,) if isinstance(want, Rows) else _TABLES[type(want)]


def _check(plugin: Plugin) -> None:
    """Raises BadPlugin for wants without their method, methods without their want, and nonsense."""
    who = f"plugin {plugin.name}"
    if not plugin.name.isidentifier() or not plugin.name.isascii():
        raise BadPlugin(f"{who}: its name is no identifier", "it names a table: a-z, 0-9 and _")
    if not isinstance(plugin.every, int) or plugin.every < 1:
        raise BadPlugin(f"{who}: every is {plugin.every!r}, not a number of instructions")
    for want in plugin.wants:
        if type(want) not in _METHODS:
            raise BadPlugin(
                f"{who} wants {want!r}", f"wants are {', '.join(k.__name__ for k in _METHODS)}"
            )
        if isinstance(want, Rows) and want.table not in TABLES:
            raise BadPlugin(f"{who} wants Rows({want.table!r})", f"tables: {' '.join(TABLES)}")
        if not isinstance(want, Rows) and not 0 <= want.start < want.end <= 2**64:
            raise BadPlugin(f"{who} wants {want!r}: no range of addresses", "start < end <= 2**64")
        if isinstance(want, Memory) and not (want.reads or want.writes):
            raise BadPlugin(f"{who} wants {want!r}: neither reads nor writes")
    wanted = {type(want) for want in plugin.wants}
    for kind, method in _METHODS.items():
        defined = _defines(plugin, method)
        if kind in wanted and not defined:
            raise BadPlugin(f"{who} wants {kind.__name__} and has no {method}")
        if defined and kind not in wanted:
            raise BadPlugin(
                f"{who} has {method} and wants no {kind.__name__}",
                f"say so: wants = [{kind.__name__}(…)]",
            )


def _defines(plugin: Plugin, method: str) -> bool:
    return getattr(type(plugin), method) is not getattr(Plugin, method)


def _where(plugin: Plugin, error: BaseException) -> str:
    """` (file.py:12)`: the plugin's last line that was reached."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without our own call
    source = inspect.getfile(type(plugin))
    own = [frame for frame in frames if frame.filename == source] or frames
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _named(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
