"""Calls of plugins. A plugin that raises is not called again, and ends the run as `stop` does."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shstk.schemas.errors import BadPlugin, ShstkError
from shstk.tracer.plugins.interface import Plugin, View

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


class Calls:
    """Calls the plugins of a run.

    failure: that of the first plugin that raised. guest_ended: set it when the guest has ended.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.failure: BadPlugin | None = None
        self.guest_ended = False
        self._working = list(plugins)  # those that have not raised
        self._kernel: Kernel | None = None
        self._ending = False  # a plugin ends the run

    def attach(self, kernel: Kernel) -> None:
        self._kernel = kernel
        for plugin in self._working:
            plugin.guest = View(kernel)

    def working(self) -> list[Plugin]:
        """The plugins that have not raised."""
        return list(self._working)

    def call(self, plugin: Plugin, method: str, *args: object) -> Any:
        """The result of the plugin's method; None if it raises, or if the plugin raised before."""
        if plugin not in self._working:
            return None
        try:
            result = getattr(plugin, method)(*args)
        except (Exception, SystemExit) as error:
            self.fail(plugin, method, error)
            return None
        if plugin.stopped is not None and not self._ending:
            late = " (the guest had ended)" if self.guest_ended else ""
            self._end(f"plugin {plugin.name} stopped the run: {plugin.stopped}{late}")
        return result

    def fail(self, plugin: Plugin, method: str, error: BaseException) -> None:
        """`error` was raised by the plugin's method, or results from the value it returned."""
        self._working.remove(plugin)
        place = f"plugin {plugin.name} failed in {method}{_where(plugin, error)}"
        if isinstance(error, ShstkError):
            failure = BadPlugin(f"{place}: {error.what}", error.hint)
        else:
            failure = BadPlugin(f"{place}: {_named(error)}")
        failure.__cause__ = error
        self.failure = self.failure or failure
        self._end(place)  # without the message: it may name files of the host, and a run must not

    def _end(self, why: str) -> None:
        assert self._kernel is not None
        self._ending = True
        self._kernel.ending = "stopped"
        self._kernel.warn(why)


def _where(plugin: Plugin, error: BaseException) -> str:
    """` (file.py:12)`: the innermost line of the traceback in the plugin's file."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without the frame of `call`
    source = inspect.getfile(type(plugin))
    own = [frame for frame in frames if frame.filename == source] or frames
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _named(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
