"""The compiled executor: harts, address spaces and trace buffers of one run.

The kernel model drives it: it maps pages, sets registers, calls `Hart.run` and handles the reason
it stopped for. The core knows instructions and page permissions; it knows nothing of Linux.
"""

from collections.abc import Sequence
from typing import Final

# Why Hart.run came back.
STOP_BUDGET: Final = 0  # the budget is used up; pc is the next instruction
STOP_ECALL: Final = 1  # pc is the ecall's own address (the kernel adds 4)
STOP_FAULT: Final = 2  # an exception; see Hart.fault(); pc is the faulting instruction's
STOP_FLUSH: Final = 3  # a trace buffer has too little room for another block: drain it, run on

# Page permissions, combined with |. R, W, X are the VMA's own prot bits.
PERM_R: Final = 1
PERM_W: Final = 2
PERM_X: Final = 4
PERM_SS: Final = 8  # VM_SHADOW_STACK
PERM_SHARED: Final = 16  # MAP_SHARED anonymous: fork shares the frames instead of copying on write

# What is recorded: one compiled loop for each combination that is used.
TRACE_CFI: Final = 1
TRACE_FLOW: Final = 2
TRACE_INSN: Final = 4

# Kinds of cfi rows, as they stand in the `kind` column (indices into schemas' CFI_KINDS):
# 0 sspush 1 sspopchk 2 ssamoswap 3 ssrdp 4 ssp_read 5 ssp_write 6 lpad

# The extensions that core/isa has instructions of, as an ISA string spells them.
EXTENSIONS: Final[tuple[str, ...]]

class Machine:
    """What the harts of one run share: frames, decoded text, the instruction count, trace buffers.

    One hart runs at a time; nothing else of the machine may be used meanwhile.
    """

    def __init__(self, *, without: Sequence[str] = (), trace: int = 0, max_frames: int = 0) -> None:
        """without: extensions (of EXTENSIONS, else ValueError) whose instructions are not there.
        max_frames: resident 4 KiB frames allowed (0 = no limit); past it accesses that need a
        new frame stop with a fault of cause `FAULT_NO_FRAME`."""
    icount: int
    """Index of the instruction attempted last (retired or trapped), from 1; 0 is the loader's.
    Cfi, flow and insn rows of an instruction carry seq = icount * 2**20. The counters cycle, time
    and instret read it too."""
    trace: int
    @property
    def frames(self) -> int:
        """4 KiB frames in use."""
    def pending(self, table: str) -> int:
        """Rows waiting in the buffers of 'cfi', 'flow', 'code' or 'insn'."""
    def drain(self, table: str) -> dict[str, memoryview]:
        """All waiting rows of a table, column by column, without a copy; the buffers start afresh.
        Their memory is used again once no view of it is left.

        cfi:  seq u64, tid u32, mm u32, kind u8, pc u64, addr u64, value u64, operand u64,
              ssp_before u64, ssp_after u64, fault u8 (the cause; 255 = none). One row an sspush,
              sspopchk, ssamoswap, ssrdp (not to x0) or access to csr ssp, none where they are
              no-ops; lpad while xLPE is on: value its label, operand x7[31:12], and where a pad is
              missing a row with fault 18 and value 0xffffffff. ssp_write: value is the new ssp.
        flow: seq u64, tid u32, mm u32, block u32. A block ends after a control transfer or before
              the page's end; an instruction across two pages is a block of its own.
        code: seq u64, tid u32, mm u32, block u32, pc u64, length u32, bytes_offset i32 (rows + 1,
              offsets into) bytes u8. Ids count from 1 in the order of first execution; a block is
              its text, its pc and the frame's lineage (copy-on-write copies share one).
        insn: seq u64, tid u32, mm u32, pc u64, word u32, rd u8 (0..31 x, 32..63 f, 64..95 v, of a
              group the first; 255 none), rd_value u64 (of v the low 64 bits), mem_addr u64,
              mem_value u64, mem_size u8 (0 = no access), ssp u64 (after it). Instructions that
              retired, and ecalls. mem_value: of an AMO or ssamoswap what was stored (amocas: what
              is there now; of 16 bytes the low half; of the 64 bytes that cbo.zero clears 0). Of a
              pair of registers rd is the even one. Of a vector load or store the first element that
              was accessed.
        """

    def save(self, spaces: Sequence[AddressSpace], harts: Sequence[Hart]) -> bytes:
        """The frames of these spaces, how they share them, the harts, icount, and what numbers
        blocks; not decoded text, `trace` or waiting rows. ValueError for another machine's."""
    def restore(self, state: bytes) -> tuple[list[AddressSpace], list[Hart]]:
        """New spaces and harts, in the order they were saved in; the machine goes on from there.
        ValueError, and nothing has changed, for bytes that `save` can't have given and for more
        frames than max_frames. Frames of spaces that the machine had before still count."""

def decode(word: int) -> tuple[str, str, int, int, int, int, int] | None:
    """An instruction as the executor decodes it: (name, format, rd, rs1, rs2, rs3, immediate).

    name and format are those of its row in core/isa; a compressed word (16 bits) gives what it
    expands to. Fields that the format does not have hold whatever the word has there. pc-relative
    immediates count from the instruction. All extensions are there. None: no such instruction.
    """

FAULT_NO_FRAME: Final = 64

class AddressSpace:
    """Pages of one mm: 4 KiB, addresses below 2**56, demand-zero, copy-on-write after fork."""

    def __init__(self, machine: Machine) -> None: ...
    def fork(self) -> AddressSpace:
        """A copy; private pages become copy-on-write on both sides; nothing is copied."""
    def map(self, start: int, length: int, perm: int) -> None:
        """Fresh demand-zero pages; whatever was there is dropped.

        ValueError, here and below, for a range that is empty, not page-aligned or ends above 2**56,
        and for unknown permission bits.
        """
    def share(
        self, start: int, length: int, perm: int, source: AddressSpace, source_start: int
    ) -> None:
        """Map the frames that `source` has at source_start, within one shared mapping of its own
        (else ValueError), so that both see every store."""
    def unmap(self, start: int, length: int) -> None: ...
    def protect(self, start: int, length: int, perm: int) -> None:
        """New permissions for the mapped pages of the range; contents and PERM_SHARED stay."""
    def move(self, old_start: int, length: int, new_start: int) -> None:
        """Move pages with contents and permissions (mremap); whatever was at the new place is
        dropped. ValueError if the ranges overlap."""
    def discard(self, start: int, length: int) -> None:
        """Contents become zero, mapping and permissions stay (MADV_DONTNEED). Shared pages keep
        theirs: they are only no longer resident."""
    def perm(self, addr: int) -> int:
        """Permissions of the page, -1 if unmapped."""
    def resident(self, start: int, length: int) -> int:
        """Pages of the range that have a frame of their own (Rss, in pages)."""
    def read(self, addr: int, length: int, force: bool = False) -> bytes | None:
        """copy_from_user: None if any byte is not readable by a load (force: mapped is enough)."""
    def write(self, addr: int, data: bytes, force: bool = False) -> bool:
        """copy_to_user: False (and nothing written) if any byte isn't writable by an ordinary
        store; shadow-stack pages never are. force: any mapped page, shadow stack and read-only too
        (a private copy is made; decoded text there is dropped)."""
    def read_cstr(self, addr: int, limit: int) -> bytes | None:
        """Up to the first NUL (left out); None at an unreadable byte; `limit` bytes without one."""
    def ss_write(self, addr: int, value: int) -> bool:
        """The kernel's shadow-stack store (8 bytes, aligned): True only on a page with SS and W."""
    def ss_swap(self, addr: int, value: int) -> int | None:
        """The kernel's ssamoswap.d: the old word, or None where ss_write would fail."""

class Hart:
    """The user-visible registers of one task."""

    def __init__(self, machine: Machine) -> None: ...
    def copy(self) -> Hart: ...
    pc: int
    fcsr: int
    ssp: int  # bits 2:0 read as zero
    elp: bool  # a landing pad is expected
    sse: bool  # senvcfg.SSE: shadow stack on
    lpe: bool  # senvcfg.LPE: landing pads on
    pmlen: int  # senvcfg.PMM: upper bits of data addresses that are ignored: 0, 7 or 16
    def x(self, i: int) -> int: ...
    def set_x(self, i: int, value: int) -> None: ...
    def f(self, i: int) -> int:
        """The 64 raw bits (NaN-boxed singles stay boxed)."""
    def set_f(self, i: int, bits: int) -> None: ...
    def regs(self) -> list[int]:
        """x0..x31 in one crossing."""
    def args(self) -> tuple[int, int, int, int, int, int, int]:
        """a0..a5 and a7 in one crossing (a system call's)."""
    v_used: bool
    """A vector instruction or CSR was asked for, or vectors were set. Set to False: all as in a new
    hart, zero."""
    v_enabled: bool  # sstatus.VS is not Off; else all of the vectors is illegal
    def v(self, i: int) -> bytes:
        """The 16 bytes of a vector register."""
    def set_v(self, i: int, value: bytes) -> None: ...
    def v_csrs(self) -> tuple[int, int, int, int]:
        """vstart, vl, vtype, vcsr. (vlenb is 16.)"""
    def set_v_csrs(self, vstart: int, vl: int, vtype: int, vcsr: int) -> None:
        """As vsetvl would with vl as AVL: an unsupported vtype becomes vill, vl at most VLMAX."""
    def discard_v(self) -> None:
        """v0..v31 all ones, vtype vill, vl and vstart 0: what Linux leaves behind a system call."""
    def state(self) -> bytes:
        """Everything above plus the reservation, to be given to `restore` (checkpoints)."""
    def restore(self, state: bytes) -> None: ...
    def state_hash(self) -> int:
        """64 bits over x, f, fcsr, ssp, elp, pc, and the vectors if v_used; independent of slices
        and of what is traced."""
    def clear_reservation(self) -> None: ...
    def run(self, space: AddressSpace, budget: int, tid: int, mm: int) -> int:
        """Run at most `budget` instructions, exactly; returns a STOP_*. tid and mm go into rows.

        An ecall or a fault advances icount by one (its own index) but not pc. A stop for budget or
        flush in mid-block leaves no trace in any row if the same hart is run on next.
        Releases the GIL. ValueError if the space is another machine's, RuntimeError if the machine
        is running already.
        """
    def fault(self) -> tuple[int, int, int, int, int, int]:
        """After STOP_FAULT: (cause, tval, word, address, expected, found).

        cause: 0 misaligned fetch, 1 fetch access, 2 illegal, 3 breakpoint, 5 load access,
        7 store/AMO access, 12 fetch page, 13 load page, 15 store/AMO page, 18 software check.
        tval: the faulting address (the word for cause 2; 2 or 3 for cause 18; pc for 3).
        word: the instruction (16 bits zero-extended; 0 if it could not be fetched).
        address: the data address of a memory access, ssp for sspopchk, ssp - 8 for sspush.
        expected, found: sspopchk: the word at ssp, the register; lpad: x7[31:12], the label found
        (0xffffffff if no lpad stood there); else 0, 0.
        """
