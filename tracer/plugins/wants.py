"""The wants of a plugin: the method that receives each, and the tables it is built from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.schemas.errors import BadPlugin
from shstk.schemas.tables import TABLES
from shstk.tracer.plugins.interface import Blocks, Instructions, Memory, Plugin, Rows, Want

METHODS: Final[dict[type[Want], str]] = {
    Rows: "on_rows",
    Blocks: "on_blocks",
    Instructions: "on_instructions",
    Memory: "on_memory",
}
# The last table has one row for each row of the want.
SOURCES: Final[dict[type[Want], tuple[str, ...]]] = {
    Blocks: ("code", "flow"),
    Instructions: ("insn",),
    Memory: ("insn",),
}


def tables(plugins: Iterable[Plugin]) -> set[str]:
    """The tables that the wants of these plugins are built from."""
    return {table for plugin in plugins for want in plugin.wants for table in _tables(want)}


def defines(plugin: Plugin, method: str) -> bool:
    return getattr(type(plugin), method) is not getattr(Plugin, method)


def check(plugin: Plugin) -> None:
    """Raises BadPlugin for wants without a method, methods without a want, and invalid values."""
    who = f"plugin {plugin.name}"
    if not plugin.name.isidentifier() or not plugin.name.isascii():
        raise BadPlugin(f"{who}: its name is not an identifier", "use a-z, 0-9 and _")
    if not isinstance(plugin.every, int) or plugin.every < 1:
        raise BadPlugin(f"{who}: every is {plugin.every!r}, not a number of instructions")
    for want in plugin.wants:
        if type(want) not in METHODS:
            raise BadPlugin(
                f"{who} wants {want!r}", f"wants are {', '.join(k.__name__ for k in METHODS)}"
            )
        if isinstance(want, Rows) and want.table not in TABLES:
            raise BadPlugin(f"{who} wants Rows({want.table!r})", f"tables: {' '.join(TABLES)}")
        if not isinstance(want, Rows) and not 0 <= want.start < want.end <= 2**64:
            raise BadPlugin(
                f"{who} wants {want!r}: not an address range", "0 <= start < end <= 2**64"
            )
        if isinstance(want, Memory) and not (want.reads or want.writes):
            raise BadPlugin(f"{who} wants {want!r}: neither reads nor writes")
    wanted = {type(want) for want in plugin.wants}
    for kind, method in METHODS.items():
        defined = defines(plugin, method)
        if kind in wanted and not defined:
            raise BadPlugin(f"{who} wants {kind.__name__} but has no {method}")
        if defined and kind not in wanted:
            raise BadPlugin(
                f"{who} has {method} but does not want {kind.__name__}",
                f"add it: wants = [{kind.__name__}(…)]",
            )


def _tables(want: Want) -> tuple[str, ...]:
    return (want.table,) if isinstance(want, Rows) else SOURCES[type(want)]
