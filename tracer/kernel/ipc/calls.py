"""The system calls of ipc/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.ipc import mqueue, sysvmsg, sysvsem

CALLS: Final = (*mqueue.CALLS, *sysvmsg.CALLS, *sysvsem.CALLS)
