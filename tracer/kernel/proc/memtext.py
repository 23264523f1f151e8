"""The files of /proc that show an address space: maps, smaps, statm, the Vm lines of status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import DEV_SHMEM

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm
    from shstk.tracer.kernel.mm.vma import Vma
    from shstk.tracer.kernel.task import Task

_U64: Final = 2**64 - 1
_NAME_COLUMN: Final = 73  # show_vma_header_prefix: 25 + 6 * sizeof(void *) - 1, then a space


def area_name(mm: Mm, vma: Vma) -> str:
    """get_vma_name."""
    if vma.file is not None:
        return vma.file.path
    if vma.name:
        return vma.name
    if vma.start < mm.brk and vma.end > mm.brk_start:
        return "[heap]"
    return "[stack]" if vma.start <= mm.stack_start <= vma.end else ""


def _header(mm: Mm, vma: Vma) -> str:
    prot = "".join(
        letter if vma.prot & bit else "-"
        for letter, bit in (("r", PROT_READ), ("w", PROT_WRITE), ("x", PROT_EXEC))
    )
    device, ino, offset, name = 0, 0, 0, area_name(mm, vma)
    if vma.file is not None:
        device, ino, offset = vma.file.inode.dev, vma.file.inode.ino, vma.offset
    line = (
        f"{vma.start:08x}-{vma.end:08x} {prot}{'s' if vma.shared else 'p'} {offset:08x} "
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
        *((name, name in vma.flags) for name in ("gu", "lo", "sr", "rr", "dc", "de", "lf")),
        ("ac", vma.accounted),
        ("nr", vma.noreserve),
        *((name, name in vma.flags) for name in ("wf", "dd", "hg", "nh", "mg")),
        ("ss", vma.shadow_stack),
        ("sl", "sl" in vma.flags),
    )
    return "".join(f"{name} " for name, on in flags if on)


# The sizes in smaps, in Linux's order: name -> key of `_sizes`. smaps_rollup begins with Rss.
_SMAPS: Final = (
    ("Size", "size"),
    ("KernelPageSize", "page"),
    ("MMUPageSize", "page"),
    ("Rss", "rss"),
    ("Pss", "rss"),
    ("Pss_Dirty", "dirty"),
    ("Shared_Clean", ""),
    ("Shared_Dirty", ""),
    ("Private_Clean", "clean"),
    ("Private_Dirty", "dirty"),
    ("Referenced", "rss"),
    ("Anonymous", "anon"),
    ("KSM", ""),
    ("LazyFree", ""),
    ("AnonHugePages", ""),
    ("ShmemPmdMapped", ""),
    ("FilePmdMapped", ""),
    ("Shared_Hugetlb", ""),
    ("Private_Hugetlb", ""),
    ("Swap", ""),
    ("SwapPss", ""),
    ("Locked", "locked"),
)
_PSS: Final = (("Pss_Anon", "anon"), ("Pss_File", "file"), ("Pss_Shmem", "shmem"))
_ROLLUP: Final = (*_SMAPS[3:6], *_PSS, *_SMAPS[6:])


def maps(k: Kernel, t: Task) -> bytes:
    """Empty for a task without an address space."""
    mm = t.mm
    return _text(f"{_header(mm, vma)}\n" for vma in mm.vmas) if mm else b""


def _sizes(mm: Mm, vma: Vma) -> Counter[str]:
    """In bytes. Every page counts as one that only this address space has."""
    rss = mm.space.resident(vma.start, vma.length) * PAGE
    anon = mm.space.anonymous(vma.start, vma.length) * PAGE
    writable = vma.shared and vma.file is not None and vma.file.writable
    shmem = vma.file is not None and vma.file.inode.dev == DEV_SHMEM
    dirty = rss if writable else anon
    return Counter(
        size=vma.length,
        page=PAGE,
        rss=rss,
        anon=anon,
        file=0 if shmem else rss - anon,
        shmem=rss - anon if shmem else 0,
        dirty=dirty,
        clean=rss - dirty,
        locked=rss if "lo" in vma.flags else 0,
    )


def _lines(names: Iterable[tuple[str, str]], sizes: Counter[str]) -> list[str]:
    return [f"{name + ':':<16}{sizes[which] // 1024:>8} kB\n" for name, which in names]


def smaps(k: Kernel, t: Task) -> bytes:
    mm, lines = t.mm, []
    for vma in mm.vmas if mm else ():
        assert mm is not None
        lines += [f"{_header(mm, vma)}\n", *_lines(_SMAPS, _sizes(mm, vma))]
        lines += [f"{'THPeligible:':<16}{0:>8}\n", f"VmFlags: {vm_flags(vma)}\n"]
    return _text(lines)


def smaps_rollup(k: Kernel, t: Task) -> bytes:
    """Errno ESRCH for a task without an address space."""
    if t.mm is None:
        raise Errno("ESRCH")
    areas = list(t.mm.vmas)
    head = f"{areas[0].start:08x}-{areas[-1].end:08x} ---p 00000000 00:00 0 "
    return _text([f"{head.ljust(_NAME_COLUMN)}[rollup]\n", *_lines(_ROLLUP, _all_sizes(t.mm))])


def _all_sizes(mm: Mm) -> Counter[str]:
    sizes = Counter[str]()
    for vma in mm.vmas:
        sizes.update(_sizes(mm, vma))
    mm.rss_peak = max(mm.rss_peak, sizes["rss"])
    return sizes


def _text_size(mm: Mm) -> int:
    """Of the program's own code."""
    return sum(v.length for v in mm.vmas if v.is_exec and v.file and v.file.inode is mm.program)


def statm(k: Kernel, t: Task) -> bytes:
    if t.mm is None:
        return b"0 0 0 0 0 0 0\n"
    mm, sizes = t.mm, _all_sizes(t.mm)
    data = mm.vmas.data + mm.vmas.stack
    shared = sizes["file"] + sizes["shmem"]
    numbers = (mm.vmas.total, sizes["rss"], shared, _text_size(mm), 0, data, 0)
    return " ".join(str(n // PAGE) for n in numbers).encode() + b"\n"


def vm_status(t: Task) -> list[tuple[str, object]]:
    """The lines of status about memory; none for a task without an address space."""
    mm = t.mm
    if mm is None:
        return []
    vmas, sizes, text = mm.vmas, _all_sizes(mm), _text_size(mm)
    shown = {
        "VmPeak": vmas.peak,
        "VmSize": vmas.total,
        "VmLck": vmas.locked,
        "VmPin": 0,
        "VmHWM": mm.rss_peak,
        "VmRSS": sizes["rss"],
        "RssAnon": sizes["anon"],
        "RssFile": sizes["file"],
        "RssShmem": sizes["shmem"],
        "VmData": vmas.data,
        "VmStk": vmas.stack,
        "VmExe": text,
        "VmLib": vmas.exec - text,
        "VmPTE": (sizes["rss"] // PAGE // 512 + 8) * PAGE,  # about as many tables as it needs
        "VmSwap": 0,
        "HugetlbPages": 0,
    }
    more = {"CoreDumping": 0, "THP_enabled": 0, "untag_mask": f"{_U64 >> mm.pmlen:#x}"}
    return [*((name, f"{n // 1024:>8} kB") for name, n in shown.items()), *more.items()]


def _text(lines: Iterable[str]) -> bytes:
    return "".join(lines).encode("utf-8", "surrogateescape")
