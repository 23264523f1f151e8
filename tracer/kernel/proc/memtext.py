"""The files of /proc that show an address space: maps, smaps, statm, the Vm lines of status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.vma import Vma
    from shstk.tracer.kernel.task import Task

_NAME_COLUMN: Final = 73  # show_vma_header_prefix: 25 + 6 * sizeof(void *) - 1, then a space


def _header(vma: Vma) -> str:
    prot = "".join(
        letter if vma.prot & bit else "-"
        for letter, bit in (("r", PROT_READ), ("w", PROT_WRITE), ("x", PROT_EXEC))
    )
    device, ino, name = 0, 0, vma.name
    if vma.file is not None:
        device, ino, name = vma.file.inode.dev, vma.file.inode.ino, vma.file.path
    line = (
        f"{vma.start:08x}-{vma.end:08x} {prot}{'s' if vma.shared else 'p'} {vma.offset:08x} "
        f"{device >> 8:02x}:{device & 0xFF:02x} {ino} "
    )
    return line.ljust(_NAME_COLUMN) + name if name else line


def vm_flags(vma: Vma) -> str:
    """VmFlags, in the order of the VM_* bits."""
    written = vma.shared and vma.file is not None and vma.file.writable
    flags = (
        ("rd", vma.prot & PROT_READ),
        ("wr", vma.prot & PROT_WRITE),
        ("ex", vma.prot & PROT_EXEC),
        ("sh", written),
        ("mr", True),
        ("mw", written or not vma.shared),
        ("me", True),
        ("ms", vma.shared),
        ("gd", vma.grows_down),
        ("sr", "sr" in vma.advice),
        ("rr", "rr" in vma.advice),
        ("dc", "dc" in vma.advice),
        ("ac", vma.accounted),
        ("nr", vma.noreserve),
        *((name, name in vma.advice) for name in ("wf", "dd", "hg", "nh", "mg")),
        ("ss", vma.shadow_stack),
    )
    return "".join(f"{name} " for name, on in flags if on)


# The sizes in smaps, in Linux's order: name -> key of the counts below.
_SMAPS: Final = (
    ("Size", "size"),
    ("KernelPageSize", "page"),
    ("MMUPageSize", "page"),
    ("Rss", "rss"),
    ("Pss", "rss"),
    ("Pss_Dirty", "rss"),
    ("Shared_Clean", ""),
    ("Shared_Dirty", ""),
    ("Private_Clean", ""),
    ("Private_Dirty", "rss"),
    ("Referenced", "rss"),
    ("Anonymous", "rss"),
    ("KSM", ""),
    ("LazyFree", ""),
    ("AnonHugePages", ""),
    ("ShmemPmdMapped", ""),
    ("FilePmdMapped", ""),
    ("Shared_Hugetlb", ""),
    ("Private_Hugetlb", ""),
    ("Swap", ""),
    ("SwapPss", ""),
    ("Locked", ""),
)


def maps(k: Kernel, t: Task) -> bytes:
    """Empty for a task without an address space."""
    return _text(f"{_header(vma)}\n" for vma in t.mm.vmas) if t.mm else b""


def smaps(k: Kernel, t: Task) -> bytes:
    if t.mm is None:
        return b""
    lines = []
    for vma in t.mm.vmas:
        rss = t.space.resident(vma.start, vma.length) * PAGE
        numbers = {"size": vma.length // 1024, "page": PAGE // 1024, "rss": rss // 1024, "": 0}
        lines.append(f"{_header(vma)}\n")
        lines += [f"{name + ':':<16}{numbers[which]:>8} kB\n" for name, which in _SMAPS]
        lines += [f"{'THPeligible:':<16}{0:>8}\n", f"VmFlags: {vm_flags(vma)}\n"]
    return _text(lines)


def _pages(t: Task) -> dict[str, int]:
    """Page counts by use."""
    counts = dict.fromkeys(("size", "rss", "text", "data", "stack"), 0)
    for vma in t.mm.vmas if t.mm else ():
        pages = vma.length // PAGE
        counts["size"] += pages
        counts["rss"] += t.space.resident(vma.start, vma.length)
        if vma.grows_down:
            counts["stack"] += pages
        elif vma.file is not None and vma.prot & PROT_EXEC:
            counts["text"] += pages
        elif vma.prot & PROT_WRITE:
            counts["data"] += pages
    return counts


def statm(k: Kernel, t: Task) -> bytes:
    n = _pages(t)
    return f"{n['size']} {n['rss']} 0 {n['text']} 0 {n['data'] + n['stack']} 0\n".encode()


def vm_status(t: Task) -> list[tuple[str, object]]:
    """The Vm lines of status; none for a task without an address space."""
    if t.mm is None:
        return []
    n = _pages(t)
    shown = {"VmPeak": "size", "VmSize": "size", "VmHWM": "rss", "VmRSS": "rss", "RssAnon": "rss"}
    shown |= {"VmData": "data", "VmStk": "stack", "VmExe": "text"}
    return [(name, f"{n[which] * PAGE // 1024:>8} kB") for name, which in shown.items()]


def _text(lines: Iterable[str]) -> bytes:
    return "".join(lines).encode("utf-8", "surrogateescape")
