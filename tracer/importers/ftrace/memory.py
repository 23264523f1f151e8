"""What a trace tells of a task's mappings."""

from __future__ import annotations

from typing import Any, Final

from shstk.schemas.syscalls import BY_NUMBER, SYSCALLS
from shstk.schemas.uapi import MADV_DONTNEED, MADV_DONTNEED_LOCKED, PAGE
from shstk.tracer.importers.ftrace.event import Event
from shstk.tracer.importers.ftrace.tasks import Call, Task, Told, page_align
from shstk.tracer.importers.rows import Row

_VM_SHADOW_STACK: Final = 1 << 37
_MREMAP: Final = SYSCALLS["mremap"].number
_DISCARDS: Final = (MADV_DONTNEED, MADV_DONTNEED_LOCKED)


class Memory:
    def __init__(self, told: Told) -> None:
        self._told = told

    def after_call(self, task: Task, call: Call, ret: int) -> None:
        """What a call did to the address space that no probe tells. It has not ended yet."""
        task.call = call
        a, name = call.args, BY_NUMBER[call.nr].name if call.nr in BY_NUMBER else ""
        length = page_align(a[1])
        if name == "mprotect":
            self._operation(task, "protect", a[0], length, ret, prot=a[2] & 0xFFFF_FFFF)
        elif name == "madvise" and a[2] in _DISCARDS:
            self._operation(task, "discard", a[0], length, ret, flags=a[2])
        elif name == "munmap" and not call.unmapped:
            self._operation(task, "unmap", a[0], length, ret)
            if task.space and ret == 0:
                task.space.cut(a[0], length)
        elif name == "mremap":
            self._remapped(task, a, ret)
        task.call = None

    def _operation(
        self, task: Task, op: str, start: int, length: int, ret: int, **columns: Any
    ) -> Row:
        touched = bool(task.space and task.space.touched(start, length))
        return self._told.put(
            "mappings",
            task,
            op=op,
            during=self._told.during(task),
            start=start,
            length=length % 2**64,
            ret=ret,
            **{"shadow_stack": touched, **columns},
        )

    def _remapped(self, task: Task, a: tuple[int, ...], ret: int) -> None:
        old, new, done = page_align(a[1]), page_align(a[2]), not -4096 < ret < 0
        touched = bool(task.space and task.space.touched(a[0], old))
        self._told.put(
            "mappings",
            task,
            op="remap",
            during=self._told.during(task),
            hint=a[4],
            start=ret % 2**64 if done else None,
            length=new % 2**64,
            old_start=a[0],
            old_length=old % 2**64,
            flags=a[3] & 0xFFFF_FFFF,
            shadow_stack=touched,
            ret=ret,
        )
        if task.space and done and touched:
            task.space.cut(a[0], old)
            task.space.areas.append((ret % 2**64, ret % 2**64 + new))

    def map(self, task: Task, event: Event) -> None:
        task.mapping = {k: v % 2**64 for k, v in event.values.items() if isinstance(v, int)}
        if event.name == "ss_own_map":
            task.mapping["vm_flags"] = _VM_SHADOW_STACK

    def mapped(self, task: Task, event: Event) -> None:
        told, task.mapping = task.mapping, {}
        ret = event.number("ret")
        ret = event.number("arg1") if ret is None else ret
        if not told or ret is None:
            return
        ret = ret - 2**64 if ret >= 2**63 else ret
        failed, shadow = -4096 < ret < 0, bool(told.get("vm_flags", 0) & _VM_SHADOW_STACK)
        length = page_align(told.get("len", 0))
        flags, prot, offset = told.get("flags"), told.get("prot"), told.get("pgoff")
        self._told.put(
            "mappings",
            task,
            op="map",
            during=self._told.during(task),
            hint=told.get("addr"),
            start=None if failed else ret % 2**64,
            length=length % 2**64,
            prot=None if prot is None else prot & 0xFFFF_FFFF,
            flags=None if flags is None else flags & 0xFFFF_FFFF,
            offset=offset * PAGE % 2**64 if told.get("file") and offset is not None else None,
            shadow_stack=shadow,
            ret=ret,
        )
        if task.space and not failed:
            task.space.cut(ret, length)
            if shadow:
                task.space.areas.append((ret, ret + length))

    def unmap(self, task: Task, event: Event) -> None:
        if not task.call or task.call.nr != _MREMAP:
            task.unmapping = (event.number("start") or 0, event.number("len") or 0)

    def unmapped(self, task: Task, event: Event) -> None:
        if task.unmapping is None:
            return
        (start, length), task.unmapping = task.unmapping, None
        self.gone(task, start, length, event.number("ret") or 0)

    def gone(self, task: Task, start: int, length: int, ret: int) -> None:
        start, length = start % 2**64, page_align(length % 2**64)
        self._operation(task, "unmap", start, length, ret)
        if task.call:
            task.call.unmapped = True
        if task.space and ret == 0:
            task.space.cut(start, length)
