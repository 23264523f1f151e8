"""State that one module owns: System V segments, taken ports, armed timers.

The module declares `SEGMENTS = Slot(Segments)`, and `SEGMENTS.of(k)` is the state in the run of
`k`. The kernel holds it by its class: a checkpoint saves it, and kernel.py knows no subsystem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

T = TypeVar("T")


class Slot(Generic[T]):
    """A place in every kernel for one object of a class, made when it is first asked for."""

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls

    def of(self, k: Kernel) -> T:
        state = k.state.get(self._cls)
        if not isinstance(state, self._cls):
            state = k.state[self._cls] = self._cls()
        return state
