"""The plugins of one run, from the first instruction of its guest to their tables at the end.

Batches are delivered at multiples of a number of instructions, not when a buffer is full or by the
clock, so that a plugin receives the same batches in every run of the same guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shstk.schemas.errors import BadPlugin, UsageError
from shstk.tracer.plugins import wants
from shstk.tracer.plugins.calls import Calls
from shstk.tracer.plugins.events import EVENTS, entered
from shstk.tracer.plugins.interface import Plugin
from shstk.tracer.plugins.tee import Tee
from shstk.tracer.recording.recorder import trace_bits

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel, Recorder
    from shstk.tracer.kernel.task import InCall
    from shstk.tracer.plugins.selection import Selection


@dataclass(frozen=True)
class Finished:
    """table: None if the plugin has none."""

    name: str
    table: pa.Table | None
    summary: str


class Plugins:
    """The plugins of one run.

    Run the guest with `recorder` and `trace` (_core.TRACE_* bits) instead of the run's own,
    `attach` its kernel before it runs, pass `alarms` to the loop, and call `finish` when it has
    ended. A plugin that raises ends the run: the caller raises `failure`.

    inner, recorded: the recorder and the bits without plugins. Raises UsageError for two plugins
    with the same name, BadPlugin for a plugin without the method for one of its wants.
    """

    def __init__(self, plugins: Sequence[Plugin], inner: Recorder, recorded: int = 0) -> None:
        names = [plugin.name for plugin in plugins]
        for plugin in plugins:
            wants.check(plugin)
            if names.count(plugin.name) > 1:
                raise UsageError(
                    f"two plugins are named {plugin.name}", "rename one of them with ,name=NAME"
                )
        self._calls = Calls(plugins)
        methods = ("on_syscall", *(method for method, _ in EVENTS.values()))
        self._hearers = {
            method: [plugin for plugin in plugins if wants.defines(plugin, method)]
            for method in methods
        }
        at_once = frozenset(table for table, (method, _) in EVENTS.items() if self._hearers[method])
        tables = wants.tables(plugins)
        self._recorded, self._wanted = recorded, trace_bits(tables)
        self.trace = recorded | self._wanted
        self._tee = Tee(inner, recorded, tables, at_once, self._tell)
        self.recorder: Recorder = self._tee if plugins else inner

    @cached_property
    def _selection(self) -> Selection:
        from shstk.tracer.plugins.selection import Selection  # loads pyarrow.compute

        return Selection()

    @property
    def failure(self) -> BadPlugin | None:
        return self._calls.failure

    def attach(self, kernel: Kernel) -> None:
        """Attach the kernel of a guest before its first instruction."""
        self._kernel = kernel
        self._calls.attach(kernel)
        if self._hearers["on_syscall"]:
            kernel.on_entry = self._entry
        self._tee.replay()

    def unrecord(self, table: str) -> None:
        """The run's recorder needs no more rows of this table, one of a word of --trace."""
        bits = trace_bits({table})
        self._recorded &= ~bits
        self._tee.unrecord(bits)
        self._kernel.machine.trace = self._recorded | self._wanted

    def alarms(self) -> Iterator[tuple[int, Callable[[], None]]]:
        """(icount, callback) of each delivery of batches; none if no plugin wants any."""
        steps = [plugin.every for plugin in self._calls.working() if plugin.wants]
        return ((n * min(steps), self.deliver) for n in count(1)) if steps else iter(())

    def deliver(self) -> None:
        """Deliver the rows since the last delivery, table by table, to each plugin in turn."""
        batches = self._tee.take(self._kernel.machine)
        if not (working := self._calls.working()):
            return
        self._selection.begin(batches)
        for plugin in working:
            for method, arguments in self._selection.of(plugin.wants):
                self._calls.call(plugin, method, *arguments)

    def finish(self) -> tuple[Finished, ...]:
        """After the end of the guest: deliver the last batches; return tables and summaries."""
        self._calls.guest_ended = True
        self.deliver()
        return tuple(self._finish(plugin) for plugin in self._calls.working())

    def _finish(self, plugin: Plugin) -> Finished:
        made = self._calls.call(plugin, "finish")
        try:
            table = made if made is None or isinstance(made, pa.Table) else pa.table(made)
        except (TypeError, ValueError, pa.ArrowException) as error:
            self._calls.fail(plugin, "finish", TypeError(f"not a table: {error}"))
            table = None
        return Finished(plugin.name, table, self._calls.call(plugin, "summary") or "")

    def _entry(self, call: InCall) -> None:
        told = entered(call)
        for plugin in self._hearers["on_syscall"]:
            self._calls.call(plugin, "on_syscall", told)

    def _tell(self, table: str, row: dict[str, Any], file: bytes) -> None:
        method, make = EVENTS[table]
        event = make(row, file)
        if event is not None:
            for plugin in self._hearers[method]:
                self._calls.call(plugin, method, event)
