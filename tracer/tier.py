"""What executes a guest's instructions: native code made from its text, or the interpreter.

Both do exactly the same, so no run says which it was.
"""

from __future__ import annotations

from typing import Final

from shstk.schemas.errors import UsageError

# The entries of a block after which it is worth translating.
_WORTH: Final = {"auto": 32, "native": 0}


def native_after(tier: str) -> int | None:
    """The `native_after` of the Machine for --tier. Raises UsageError."""
    if tier not in _WORTH:
        return None
    obstacle = why_interpreted()
    if obstacle and tier == "native":
        raise UsageError(f"--tier native: {obstacle}", "--tier auto interprets the guest then")
    return None if obstacle else _WORTH[tier]


def why_interpreted() -> str:
    """Why this host can't execute native code; empty if it can."""
    from shstk.tracer._core import native_obstacle

    return native_obstacle()
