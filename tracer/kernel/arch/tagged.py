"""Supm: pointers whose upper bits are a tag.

PR_SET_TAGGED_ADDR_CTRL makes the hart ignore the upper PMLEN bits of data addresses. With
PR_TAGGED_ADDR_ENABLE system calls accept such pointers as well (Linux 6.13,
arch/riscv/kernel/process.c: set_tagged_addr_ctrl). clone and fork inherit it, execve clears it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ENABLE: Final = 1
_SHIFT: Final = 24  # PR_PMLEN_SHIFT
_LENGTHS: Final = 0x7F
_KNOWN: Final = (0, 7, 16)  # senvcfg.PMM's values


def set_tagged_addr_ctrl(k: Kernel, t: Task, a: Args) -> int:
    """Set the smallest supported PMLEN not below the one requested. Errno: EINVAL, EBUSY."""
    assert t.mm is not None
    asked, enable = a[1] >> _SHIFT & _LENGTHS, a[1] & _ENABLE
    if any(a[2:5]) or a[1] & ~(_LENGTHS << _SHIFT | _ENABLE) or asked > _KNOWN[-1]:
        raise Errno("EINVAL")
    length = next(known for known in _KNOWN if known >= asked)
    if enable and not length:
        raise Errno("EINVAL")
    taken_by_calls = length if enable else 0
    # "Ensure all threads in this mm have the same pointer masking mode."
    if t.mm.pmlen_locked and t.mm.pmlen != taken_by_calls:
        raise Errno("EBUSY")
    t.hart.pmlen, t.mm.pmlen = length, taken_by_calls
    return 0


def get_tagged_addr_ctrl(k: Kernel, t: Task, a: Args) -> int:
    assert t.mm is not None
    if any(a[1:5]):
        raise Errno("EINVAL")
    return t.hart.pmlen << _SHIFT | (_ENABLE if t.mm.pmlen else 0)
