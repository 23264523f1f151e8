"""The compiled executor: harts, address spaces and trace buffers of one run.

The kernel model drives it: it maps pages, sets registers, calls `Hart.run` and handles the stop
reason. The core implements instructions and page permissions, and nothing of Linux.
"""

from collections.abc import Sequence
from typing import Final

# Stop reasons: the result of Hart.run.
STOP_BUDGET: Final = 0  # the budget is used up; pc is the next instruction
STOP_ECALL: Final = 1  # pc is the address of the ecall (the kernel adds 4)
STOP_FAULT: Final = 2  # an exception; see Hart.fault(); pc is the faulting instruction
STOP_FLUSH: Final = 3  # a trace buffer has no room for another block: drain it and run again
STOP_TRAP: Final = 4  # before an instruction that AddressSpace.set_traps named; it did not count

# What an instruction does with the bytes of a watch, combined with |.
USE_LOAD: Final = 1
USE_STORE: Final = 2

# Page permissions, combined with |. R, W and X are the prot bits of the VMA.
PERM_R: Final = 1
PERM_W: Final = 2
PERM_X: Final = 4
PERM_SS: Final = 8  # VM_SHADOW_STACK
PERM_SHARED: Final = 16  # MAP_SHARED: stores go to the pages that are mapped, not to a copy

# The traces that are recorded. Each combination in use has its own compiled loop.
TRACE_CFI: Final = 1
TRACE_FLOW: Final = 2
TRACE_INSN: Final = 4

C_COMPILER: Final[str]
"""The C compiler of the machine that this was built on."""

TABLES: Final[dict[str, tuple[int, dict[str, str]]]]
"""For each table the TRACE_* bit that selects it, and its columns: name -> format of the memoryview
from `drain`. They are the columns of that table in schemas/tables.py, except code's
`bytes_offset`."""

CFI_KINDS: Final[tuple[str, ...]]
"""The words of cfi's `kind` column, in the order of the numbers in it."""

# The extensions with instructions in core/isa, as spelled in an ISA string.
EXTENSIONS: Final[tuple[str, ...]]

class Machine:
    """The state that the harts of a run share: frames, decoded text, icount, trace buffers.

    One hart runs at a time. While it runs, nothing else of the machine may be used.
    """

    def __init__(
        self,
        *,
        without: Sequence[str] = (),
        trace: int = 0,
        max_frames: int = 0,
        native_after: int | None = None,
        native_bytes: int = ...,
    ) -> None:
        """without: extensions of EXTENSIONS (otherwise ValueError) that the machine does not have.
        max_frames: limit of resident 4 KiB frames (0 = none); an access that needs a new frame
        above it stops with a fault of cause `FAULT_NO_FRAME`.
        native_after: blocks that are entered more often become native code, except where insn rows
        are recorded. It makes no difference but of speed. RuntimeError if there is a
        `native_obstacle`.
        native_bytes: the room for native code (64 MiB). All of it is dropped when it is full."""
    icount: int
    """Index of the last attempted instruction (retired or trapped), from 1; 0 is the loader's.
    cfi, flow and insn rows of an instruction have seq = icount * 2**20."""
    time_offset: int
    """csr time reads icount + time_offset."""
    def now(self) -> int:
        """icount + time_offset."""
    def spend(self, ns: int) -> None:
        """Add to time_offset."""
    def step(self) -> int:
        """The seq of the kernel's next step at this icount."""
    trace: int
    @property
    def frames(self) -> int:
        """4 KiB frames in use."""
    def pending(self, table: str) -> int:
        """Rows waiting in the buffers of 'cfi', 'flow', 'code' or 'insn'."""
    def drain(self, table: str) -> dict[str, memoryview]:
        """All waiting rows of a table, by column, without a copy; the table is empty afterwards.
        The memory is reused once no view of it is left.

        schemas/tables.py documents the columns. The buffers have no nulls; when there is a row, and
        what stands for null:

        cfi:  One row per sspush, sspopchk, ssamoswap, ssrdp (not to x0) or access to csr ssp,
              except where it is a no-op. While xLPE is on, one row per lpad: value is its label,
              operand x7[31:12]; a missing pad has fault 18 and value 0xffffffff. ssp_write: value
              is the new ssp. fault: 255 = none.
        flow: A block ends after a control transfer or before the end of the page; an instruction
              across two pages is a separate block.
        code: bytes_offset (rows + 1 offsets) says where the bytes of each row begin and end. Ids
              count from 1 in the order of first execution. A block is identified by its text, its
              pc and the lineage of its frame, which copy-on-write copies share.
        insn: One row per retired instruction and ecall. rd: 255 = none; the first register of a
              group, the even one of a pair. mem_size: 0 = no access. mem_value: for an AMO or
              ssamoswap the value stored (amocas: the value in memory afterwards), for 16 bytes the
              low half, for cbo.zero's 64 bytes 0. A vector load or store shows the first element
              that it accessed.
        """

    stored: bool  # a store went through a shared mapping; stays True until it is set to False
    noting: bool
    """Traps do not stop the hart; `noted` tells of the last one."""
    noted: int
    """icount before the instruction of the last trap."""
    pass_at: int
    """The instruction after this icount runs even if its address is a trap's."""
    pass_access: bool
    """The next instruction runs even if its accesses are watched; then it is False again."""
    kernel_stored: bool
    """write, ss_write or ss_swap changed a watched byte; stays True until it is set to False."""
    def save(
        self, spaces: Sequence[AddressSpace], harts: Sequence[Hart], files: Sequence[Pages]
    ) -> bytes:
        """The frames of these spaces and files and their sharing, the harts, icount, time_offset,
        and the block ids; not decoded text, `trace`, waiting rows, or the data of files. ValueError
        for something of another machine, and for pages that a space maps but `files` lacks."""
    def restore(self, state: bytes) -> tuple[list[AddressSpace], list[Hart], list[Pages]]:
        """New spaces, harts and files, in the order of the save; the machine continues from there.
        Each file's `data` must be attached again. ValueError, without a change, for bytes that
        `save` can't have returned and for more frames than max_frames. Files that the machine had
        before become empty; the frames of its spaces still count."""

def native_obstacle() -> str:
    """Why this host can't have native code; the empty string if it can."""

def decode(word: int) -> tuple[str, str, int, int, int, int, int] | None:
    """An instruction as the executor decodes it: (name, format, rd, rs1, rs2, rs3, immediate).

    name and format are those of its row in core/isa; for a compressed word (16 bits), those of its
    expansion. A field that the format does not have contains the bits of the word at its position.
    pc-relative immediates are relative to the instruction. All extensions are enabled. None: no
    such instruction.
    """

class RowBuffer:
    """Rows of the kernel model as columns in Arrow's layout.

    columns: for each its name, its type in schemas/tables.py, and the words of a kind."""

    def __init__(self, columns: Sequence[tuple[str, str, tuple[str, ...]]]) -> None: ...
    def add(self, values: tuple[object, ...]) -> None:
        """A value for each column, None for null. ValueError, without a change, if one does not
        fit."""
    @property
    def rows(self) -> int: ...
    @property
    def last(self) -> int:
        """The highest value of the first column that was ever added."""
    def drain(self) -> list[tuple[bytes | None, bytes, bytes | None]]:
        """For each column the bitmap of its validity (None: no nulls), its values, and the offsets
        of str and bytes; the buffer is empty afterwards. A bool is a byte, a kind the index of its
        word."""

FAULT_NO_FRAME: Final = 64

class Pages:
    """The contents of a file that is mapped, or of shared memory.

    A page gets a frame when it is stored to or executed. The others are read in `data`, and as
    zeros after it. A frame that no mapping uses and that still has the bytes of `data` is given
    back when the machine runs out of frames.
    """

    def __init__(self, machine: Machine, data: bytes = b"") -> None: ...
    size: Final[int]
    def attach(self, data: bytes) -> None:
        """After Machine.restore: the data that it began with."""
    def resize(self, size: int) -> None:
        """What is cut off reads as zeros if the file grows again. Mappings keep the frames of the
        pages that were cut off until the caller discards them."""
    def read(self, offset: int, length: int) -> bytes:
        """Up to the end."""
    def write(self, offset: int, data: bytes) -> bool:
        """Within the size (otherwise ValueError). False if there is no frame left."""
    def clear(self, offset: int, length: int) -> bool:
        """As a write of zeros; holes stay holes."""
    def note_store(self) -> bool:
        """True once after the first store through a shared mapping since `clean`."""
    def clean(self) -> None:
        """Notice the next store through a shared mapping again."""

class AddressSpace:
    """The pages of one mm: 4 KiB, addresses below 2**56, demand-zero, copy-on-write after fork."""

    def __init__(self, machine: Machine) -> None: ...
    def fork(self) -> AddressSpace:
        """A copy. Private pages become copy-on-write on both sides; no contents are copied."""
    def map(self, start: int, length: int, perm: int) -> None:
        """Map demand-zero pages in place of existing ones.

        ValueError, here and below, for a range that is empty, not page-aligned or ends above 2**56,
        and for unknown permission bits.
        """
    def map_pages(self, start: int, length: int, perm: int, pages: Pages, offset: int) -> None:
        """Map a file from a page of it on. With PERM_SHARED stores go to the file; without, the
        first store to a page makes a private copy. Every access past the file's last page faults.
        """
    def unmap(self, start: int, length: int) -> None: ...
    def protect(self, start: int, length: int, perm: int) -> None:
        """Set the permissions of the mapped pages; contents and PERM_SHARED do not change."""
    def move(self, old_start: int, length: int, new_start: int) -> None:
        """Move pages with contents and permissions (mremap), in place of existing ones. ValueError
        if the ranges overlap."""
    def discard(self, start: int, length: int) -> None:
        """Drop the frames but keep the mapping and permissions (MADV_DONTNEED): anonymous memory is
        zero again, and a file's pages read what the file has."""
    def perm(self, addr: int) -> int:
        """Permissions of the page, -1 if unmapped."""
    def resident(self, start: int, length: int) -> int:
        """The number of pages in the range that were touched (Rss, in pages): the first read of a
        file's page counts for the pages around it."""
    def populate(self, start: int, length: int, write: bool) -> bool:
        """Make the pages resident, as stores would (write) or as reads of a file would. False if
        there is no frame left. Permissions are not checked; pages past a file's end are left out.
        """
    def anonymous(self, start: int, length: int) -> int:
        """Those of them that are not their file's: anonymous memory, and private copies."""
    def look(self, start: int, length: int) -> bytes:
        """A byte for each page: 3 if it has a frame of its own, 2 if it is resident as its file's,
        1 if only the file has filled that page, else 0."""
    def read(self, addr: int, length: int, force: bool = False) -> bytes | None:
        """copy_from_user: None if a load can't read some byte (force: if it is not mapped)."""
    def write(self, addr: int, data: bytes, force: bool = False) -> bool:
        """copy_to_user: False, with nothing written, if an ordinary store can't write some byte; it
        can never write a shadow stack. force: any mapped page can be written, including shadow
        stacks and read-only pages (a private copy is made, and decoded text there is dropped)."""
    def read_cstr(self, addr: int, limit: int) -> bytes | None:
        """The bytes before the first NUL, at most `limit`; None if a byte is unreadable."""
    def set_traps(self, breaks: Sequence[int], watches: Sequence[tuple[int, int, int]]) -> None:
        """Stop before the instructions at `breaks`, and before those that access the bytes of a
        watch: (first, last, USE_*). Not while traces are recorded. fork and restore copy none."""
    def ss_write(self, addr: int, value: int) -> bool:
        """The kernel's shadow-stack store (8 bytes, aligned): True only on a page with SS and W."""
    def ss_swap(self, addr: int, value: int) -> int | None:
        """The kernel's ssamoswap.d: the old word, or None if ss_write would fail."""

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
    pmlen: int  # senvcfg.PMM: number of ignored upper bits of data addresses: 0, 7 or 16
    def x(self, i: int) -> int: ...
    def set_x(self, i: int, value: int) -> None: ...
    def f(self, i: int) -> int:
        """The 64 raw bits; NaN-boxed singles stay boxed."""
    def set_f(self, i: int, bits: int) -> None: ...
    def regs(self) -> list[int]:
        """x0..x31 in one C++ call."""
    def args(self) -> tuple[int, int, int, int, int, int, int]:
        """a0..a5 and a7, of a system call, in one C++ call."""
    def enter(self) -> tuple[int, int, tuple[int, int, int, int, int, int], int, int, int]:
        """After STOP_ECALL: pc moves behind the ecall, the reservation is cleared, and vectors that
        were used are discarded. Returns Machine.step(), a7, a0..a5, the pc of the ecall, sp and
        ssp."""
    def leave(self, result: int) -> None:
        """a0 becomes the result of a call, or -errno."""
    v_used: bool
    """True after a vector instruction, an access to a vector CSR, or set_v. Setting it to False
    resets the vector state to that of a new hart, all zero."""
    v_enabled: bool  # sstatus.VS is not Off; if it is, every vector instruction is illegal
    def v(self, i: int) -> bytes:
        """The 16 bytes of a vector register."""
    def set_v(self, i: int, value: bytes) -> None: ...
    def v_csrs(self) -> tuple[int, int, int, int]:
        """vstart, vl, vtype, vcsr; vlenb is 16."""
    def set_v_csrs(self, vstart: int, vl: int, vtype: int, vcsr: int) -> None:
        """As vsetvl with vl as AVL: an unsupported vtype sets vill, vl is at most VLMAX."""
    def discard_v(self) -> None:
        """v0..v31 all ones, vtype vill, vl and vstart 0, as Linux sets them on a system call."""
    def state(self) -> bytes:
        """All of the above and the reservation, for `restore` (checkpoints)."""
    def restore(self, state: bytes) -> None: ...
    def state_hash(self) -> int:
        """A 64-bit hash of x, f, fcsr, ssp, elp, pc, and the vector state if v_used; independent of
        slices and of the trace."""
    def clear_reservation(self) -> None: ...
    def run(self, space: AddressSpace, budget: int, tid: int, mm: int) -> int:
        """Run at most `budget` instructions, exactly; return a STOP_*. tid and mm go into rows.

        An ecall or a fault advances icount by one (its own index) but not pc. A stop for budget or
        flush within a block does not show in any row if the same hart runs next.
        Releases the GIL. ValueError if the space belongs to another machine, RuntimeError if the
        machine is already running.
        """
    def fault(self) -> tuple[int, int, int, int, int, int]:
        """After STOP_FAULT: (cause, tval, word, address, expected, found).

        cause: 0 misaligned fetch, 1 fetch access, 2 illegal, 3 breakpoint, 5 load access,
        7 store/AMO access, 12 fetch page, 13 load page, 15 store/AMO page, 18 software check.
        tval: the faulting address (the word for cause 2; 2 or 3 for cause 18; pc for 3).
        word: the instruction (16 bits zero-extended; 0 if it could not be fetched).
        address: the data address of a memory access, ssp for sspopchk, ssp - 8 for sspush.
        expected, found: for sspopchk the word at ssp and the register; for lpad x7[31:12] and the
        label (0xffffffff if the instruction is not an lpad); otherwise 0, 0.
        """
