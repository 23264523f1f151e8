"""What a plugin imports: `from shstk.plugin import Plugin, Rows`. docs/plugins.md tells how."""

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
