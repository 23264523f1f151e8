"""Address spaces: what the kernel maps and unmaps, and the user memory that it touches."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from shstk.schemas.errors import BadProgram
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import (
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    PAGE,
    PROT_EXEC,
)
from shstk.tracer import elf
from shstk.tracer.realkernel.events import Access, Call, Return
from shstk.tracer.realkernel.importer.state import (
    VM_SHADOW_STACK,
    File,
    OnCall,
    OnReturn,
    Story,
    Task,
    number,
    read_back,
    s32,
    s64,
    text,
    words,
)

_U32: Final = 0xFFFF_FFFF
_U64: Final = 2**64 - 1
_MAX_ERRNO: Final = 4095
_DISCARDS: Final = (MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE)
_IOVEC: Final = 16
# Inside of these, an unmapping is a part of another operation, which has a row of its own.
_PARTS: Final = ("do_mmap", "do_vmi_munmap", "do_vmi_align_munmap")


def _up(length: int) -> int:
    return (length + PAGE - 1) & -PAGE & _U64


def _mmap_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    file, hint, length, prot, flags, vm_flags, page, *_ = call.a
    failed = -_MAX_ERRNO <= s64(e.a0) < 0
    shadow = bool(vm_flags & VM_SHADOW_STACK)
    known = s.files.get(text(call.seen.get("file"))) if file else None
    row = s.put(
        "mappings",
        t,
        op="map",
        during=s.during(t),
        hint=hint,
        start=None if failed else e.a0,
        length=length if failed else _up(length),
        prot=prot & _U32,
        flags=flags & _U32,
        shadow_stack=shadow,
        offset=page * PAGE if file else None,
        input=_input(s, t, known) if known else None,
        ret=s64(e.a0),
    )
    if failed:
        return
    end = e.a0 + row["length"]
    s.cut_shadow(t.mm, e.a0, end)
    if shadow:
        s.shadow[t.mm or 0].append((e.a0, end))
    if known and prot & PROT_EXEC:
        s.add_code(t.mm, e.a0, end, known, page * PAGE)
        _module(s, t, known, e.a0, page * PAGE)


def _input(s: Story, t: Task, file: File) -> int:
    if file.number is None:
        file.number = s.rows.file(s.step(), file.path, file.data)
    return file.number


def _module(s: Story, t: Task, file: File, start: int, offset: int) -> None:
    """In a file that is not ELF, addresses are offsets."""
    address, build_id = offset, None
    with suppress(BadProgram):
        image = file.image or elf.parse(file.data, file.path)
        build_id = image.build_id
        for segment in image.code:
            if segment.offset & -PAGE == offset:
                address = segment.vaddr & -PAGE
    s.modules += 1
    s.put(
        "modules",
        t,
        module=s.modules,
        path=file.path,
        input=file.number,
        bias=(start - address) & _U64,
        build_id=build_id,
    )


def _unmap(s: Story, t: Task, mm_pointer: int, start: int, length: int, ret: int) -> None:
    if t.inside(*_PARTS) or (t.call is not None and t.call["name"] == "mremap"):
        return
    mm = s.mms.get(mm_pointer, t.mm)
    length = _up(length)
    s.put(
        "mappings",
        t,
        mm=mm,
        op="unmap",
        during=s.during(t),
        start=start,
        length=length,
        shadow_stack=s.touches_shadow(mm, start, length),
        ret=ret,
    )
    if ret == 0:
        s.cut_shadow(mm, start, start + length)


def _munmap_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    _unmap(s, t, call.a[1], call.a[2], call.a[3], s32(e.a0))


def _align_munmap_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    _unmap(s, t, call.a[2], call.a[3], call.a[4] - call.a[3], s32(e.a0))


def _brk_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    fixed = MAP_FIXED if t.execing else MAP_FIXED_NOREPLACE
    _anonymous(s, t, call.a[2], _up(call.a[3]), call.a[4] & 7 | 3, fixed, s32(e.a0))


def _special_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    """The vdso and its data."""
    if -_MAX_ERRNO <= s64(e.a0) < 0:
        return
    _anonymous(s, t, call.a[1], call.a[2], call.a[3] & 7, 0, 0)


def _expand_returns(s: Story, t: Task, call: Call, e: Return) -> None:
    """The stack grows; in exec this gives it its first size. What grows before exec's point of no
    return is in an address space that nobody runs in yet."""
    if s32(e.a0) or (t.inside("bprm_execve") and not t.execing) or "start" not in call.seen:
        return
    start = call.a[1] & -PAGE
    end = number(call.seen["end" if t.execing else "start"])
    if end > start:
        prot = number(call.seen.get("flags")) & 7
        _anonymous(s, t, start, end - start, prot, MAP_FIXED | MAP_GROWSDOWN, 0)


def _anonymous(
    s: Story, t: Task, start: int, length: int, prot: int, flags: int, failed: int
) -> None:
    s.put(
        "mappings",
        t,
        op="map",
        during=s.during(t),
        hint=start,
        start=None if failed else start,
        length=length,
        prot=prot,
        flags=flags | MAP_PRIVATE | MAP_ANONYMOUS,
        shadow_stack=False,
        ret=failed or start,
    )


# Calls whose rows are their arguments and results. Each gets its task's call at its return.


def _mprotect(s: Story, t: Task, a: tuple[int, ...], ret: int) -> None:
    length = _up(a[1])
    shadow = s.touches_shadow(t.mm, a[0], length)
    _operation(s, t, "protect", ret, start=a[0], length=length, prot=a[2] & 7, shadow_stack=shadow)


def _mremap(s: Story, t: Task, a: tuple[int, ...], ret: int) -> None:
    """A move without another size may take several areas with it: a row for each kind of memory."""
    old, old_length, length = a[0], _up(a[1]), _up(a[2])
    failed = -_MAX_ERRNO <= ret < 0
    whole = failed or old_length != length
    for start, end in [(old, old + old_length)] if whole else s.by_kind(t.mm, old, old + length):
        shadow = s.touches_shadow(t.mm, start, 1)
        to, size = (ret & _U64) + start - old, length if whole else end - start
        _operation(
            s,
            t,
            "remap",
            ret,
            hint=a[4],
            start=None if failed else to,
            length=size,
            old_start=start,
            old_length=end - start,
            flags=a[3] & _U32,
            shadow_stack=shadow,
        )
        if not failed:
            stays = min(size, end - start) if to == start else 0
            s.cut_shadow(t.mm, start + stays, end)
            s.cut_shadow(t.mm, to + stays, to + size)
            if shadow and stays < size:
                s.shadow[t.mm or 0].append((to + stays, to + size))


def _madvise(s: Story, t: Task, a: tuple[int, ...], ret: int) -> None:
    advice, length = a[2] & _U32, _up(a[1])
    if advice in _DISCARDS and length and ret in (0, -12):  # ENOMEM: a hole, after the rest
        shadow = s.touches_shadow(t.mm, a[0], length)
        _operation(
            s, t, "discard", ret, start=a[0], length=length, flags=advice, shadow_stack=shadow
        )


def _operation(s: Story, t: Task, op: str, ret: int, **columns: object) -> None:
    s.put("mappings", t, op=op, during=s.during(t), ret=ret, **columns)


def _written(s: Story, t: Task, a: tuple[int, ...], ret: int) -> None:
    """write: the bytes are those that the kernel read in the call."""
    _output(s, t, a[0], [(a[1], ret)])


def _written_vector(s: Story, t: Task, a: tuple[int, ...], ret: int) -> None:
    vector = read_back(t, a[1], _IOVEC * min(a[2], 1024))
    parts = words(vector)
    _output(s, t, a[0], list(zip(parts[::2], parts[1::2], strict=True)), ret)


def _output(
    s: Story, t: Task, fd: int, parts: list[tuple[int, int]], most: int | None = None
) -> None:
    if fd & _U32 not in (1, 2):
        return
    data = b"".join(read_back(t, address, size) for address, size in parts)
    data = data if most is None else data[:most]
    if data:
        s.put("output", t, fd=fd & _U32, bytes=data)


_AT_RETURN: Final = {
    "mprotect": _mprotect,
    "pkey_mprotect": _mprotect,
    "mremap": _mremap,
    "madvise": _madvise,
    "write": _written,
    "pwrite64": _written,
    "writev": _written_vector,
    "pwritev": _written_vector,
}


def call_returns(s: Story, t: Task, ret: int) -> None:
    """The rows that the task's call has, beside its own, when it returns."""
    assert t.call is not None
    if t.call["name"] in _AT_RETURN:
        _AT_RETURN[t.call["name"]](s, t, tuple(t.call[f"a{i}"] for i in range(6)), ret)


# User memory that the kernel touches.


def accessed(s: Story, t: Task, e: Access) -> None:
    if t.swap is not None:
        t.swap.append(e)
        return
    transfer(s, t, "write" if e.store else "read", e.address, e.data)
    if e.store and t.inside("mm_release") and e.address == t.clear_child_tid:
        s.event(t, "clear_child_tid", addr=e.address, value=number(e.data[:4]))


def transfer(s: Story, t: Task, op: str, address: int, data: bytes) -> None:
    if t.delivery is not None:
        t.delivery.transfers.append((op, address, data))
        return
    if op == "read" and s.during(t) is None:
        return  # the kernel looks at the code of a fault that it reports
    if op == "read":
        t.reads.append((address, data))
        data = _string(t, address, data)
    if data:
        s.put("kernel_memory", t, during=s.during(t), op=op, addr=address, bytes=data)


def end_delivery(s: Story, t: Task) -> None:
    """The delivery's row is written, or it has none."""
    d, t.delivery = t.delivery, None
    for op, address, data in d.transfers if d else ():
        s.put("kernel_memory", t, during=None, op=op, addr=address, bytes=data)


def _string(t: Task, address: int, data: bytes) -> bytes:
    """strncpy_from_user reads whole words: of a string that a call was given, what is before its
    NUL."""
    if t.call is None or t.call["name"] is None:
        return data
    arguments = SYSCALLS[t.call["name"]].arguments
    for i, argument in enumerate(arguments):
        if t.call[f"a{i}"] == address and argument.type == "str":
            return data.split(b"\0")[0]
    return data


def _vector_copy(s: Story, t: Task, e: Call) -> None:
    """A large copy, by vector instructions, which QEMU's memory callbacks do not show. One of the
    two addresses is the user's."""
    to, source = e.a[0], e.a[1]
    data = e.seen.get("bytes", b"")
    if not to >> 63 and source >> 63:
        transfer(s, t, "write", to, data)
    elif not source >> 63 and to >> 63:
        transfer(s, t, "read", source, data)


ON_CALL: Final[dict[str, OnCall]] = {"enter_vector_usercopy": _vector_copy}
ON_RETURN: Final[dict[str, OnReturn]] = {
    "do_mmap": _mmap_returns,
    "do_vmi_munmap": _munmap_returns,
    "do_vmi_align_munmap": _align_munmap_returns,
    "do_brk_flags": _brk_returns,
    "expand_downwards": _expand_returns,
    "_install_special_mapping": _special_returns,
}
