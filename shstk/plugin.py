"""The plugin API: `from shstk.plugin import Plugin, Rows`. See docs/plugins.md."""

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

__all__ = [
    "Blocks",
    "Fault",
    "Instructions",
    "Memory",
    "Module",
    "Plugin",
    "Rows",
    "Syscall",
    "View",
    "Want",
]
