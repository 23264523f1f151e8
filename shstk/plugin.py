"""What a plugin imports: `from shstk.plugin import Plugin, Rows`. docs/plugins.md tells how."""

from shstk.tracer.plugin import (
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
