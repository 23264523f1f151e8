"""State that one module owns, such as System V segments, bound ports or armed timers.

The module declares `SEGMENTS = Slot(Segments)`, and `SEGMENTS.of(k)` is its state in kernel `k`.
The kernel keeps it by its class. So checkpoints include it, and kernel.py names no subsystem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds one object of a class in each kernel, created at the first use."""

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls

    def of(self, k: Kernel) -> T:
        state = k.state.get(self._cls)
        if not isinstance(state, self._cls):
            state = k.state[self._cls] = self._cls()
        return state
