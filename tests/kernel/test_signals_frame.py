"""The signal frame's bytes, by the offsets of the reference (G3), and alternate stacks."""

from __future__ import annotations

import struct

import pytest

from shstk.tracer.kernel.arch import sigframe
from shstk.tracer.kernel.arch.sigframe import (
    LAYOUTS,
    SS_AUTODISARM,
    SS_DISABLE,
    SS_ONSTACK,
    set_altstack,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.signal import siginfo
from shstk.tracer.kernel.task import AltStack, Siginfo

REGS = [0x1000 + i for i in range(32)]  # pc, x1..x31
FPREGS = [0xF000 + i for i in range(32)]
UCONTEXT = 128


def frame(layout: str, ss_ptr: int | None) -> tuple[bytes, set[int]]:
    """The frame's bytes over a background of 0xee, and the offsets of the stores."""
    pieces = sigframe.frame_bytes(
        LAYOUTS[layout],
        Siginfo(10, 0, sender=7),
        AltStack(0x5000, 0, 0x2000),
        0xABCD,
        REGS,
        FPREGS,
        0x1F,
        ss_ptr,
    )
    image, stored = bytearray(b"\xee" * 1200), set()
    for offset, data in pieces:
        image[offset : offset + len(data)] = data
        stored |= set(range(offset, offset + len(data)))
    return bytes(image), stored


def word(image: bytes, uc_offset: int) -> int:
    return struct.unpack_from("<Q", image, UCONTEXT + uc_offset)[0]


def half(image: bytes, uc_offset: int) -> int:
    return struct.unpack_from("<I", image, UCONTEXT + uc_offset)[0]


@pytest.mark.parametrize("ss_ptr", [None, 0x7FFF0FF8])
@pytest.mark.parametrize("layout", ["ext", "bare", "fixed"])
def test_what_all_layouts_share(layout: str, ss_ptr: int | None) -> None:
    image, stored = frame(layout, ss_ptr)
    assert stored.isdisjoint(range(UCONTEXT + 28, UCONTEXT + 32))  # padding behind ss_flags
    assert image[:16] == struct.pack("<iiii", 10, 0, 0, 0)
    assert struct.unpack_from("<iI", image, 16) == (7, 1000)
    assert [word(image, o) for o in (0, 8, 16, 32, 40)] == [0, 0, 0x5000, 0x2000, 0xABCD]
    assert [word(image, 176 + 8 * i) for i in range(32)] == REGS


def test_ext_with_a_shadow_stack() -> None:
    image, stored = frame("ext", 0x7FFF0FF8)
    assert [word(image, 432 + 8 * i) for i in range(32)] == FPREGS
    assert half(image, 688) == 0x1F
    assert half(image, 948) == 0
    assert (half(image, 952), half(image, 956)) == (0x9487, 16)
    assert word(image, 960) == 0x7FFF0FF8
    assert word(image, 968) == 0
    assert max(stored) < sigframe.frame_size(LAYOUTS["ext"], True, False) == 1120


def test_ext_without_one_ends_its_list_at_once() -> None:
    image, stored = frame("ext", None)
    assert word(image, 952) == 0
    assert max(stored) < LAYOUTS["ext"].size == 1088


def test_bare_keeps_ss_ptr_behind_the_end() -> None:
    """v4 23/30: no magic and no size; the end of the list stays at 952."""
    image, stored = frame("bare", 0x7FFF0FF8)
    assert [word(image, 432 + 8 * i) for i in range(32)] == FPREGS
    assert (half(image, 948), word(image, 952), word(image, 960)) == (0, 0, 0x7FFF0FF8)
    assert max(stored) < sigframe.frame_size(LAYOUTS["bare"], True, False) == 1104
    _, stored = frame("bare", None)
    assert max(stored) == UCONTEXT + 959


def test_fixed_keeps_ss_ptr_before_the_fp_registers() -> None:
    """v1 22/28, 23/28: only an enabled task's ss_ptr is stored, and the word behind it never."""
    assert not frame("fixed", None)[1] & set(range(UCONTEXT + 432, UCONTEXT + 448))
    image, stored = frame("fixed", 0x7FFF0FF8)
    assert word(image, 432) == 0x7FFF0FF8
    assert not stored & set(range(UCONTEXT + 440, UCONTEXT + 448))
    assert [word(image, 448 + 8 * i) for i in range(32)] == FPREGS
    assert half(image, 704) == 0x1F
    assert half(image, 964) == 0
    assert word(image, 968) == 0
    assert max(stored) < sigframe.frame_size(LAYOUTS["fixed"], True, False) == 1104


def test_what_the_kernel_does_not_store_stays() -> None:
    image, stored = frame("ext", 0x7FFF0FF8)
    unused_mask = set(range(UCONTEXT + 48, UCONTEXT + 176))
    after_fcsr = set(range(UCONTEXT + 696, UCONTEXT + 948))
    assert not stored & (unused_mask | after_fcsr)
    assert image[UCONTEXT + 48] == 0xEE


@pytest.mark.parametrize(
    ("info", "fields"),
    [
        (Siginfo(11, 1, si_addr=2**64 - 8), struct.pack("<Q", 2**64 - 8)),
        (Siginfo(17, 1, sender=42, value=3), struct.pack("<iIi", 42, 1000, 3)),
        (Siginfo(34, -1, sender=42, value=2**64 - 1), struct.pack("<iIQ", 42, 1000, 2**64 - 1)),
        (Siginfo(11, 0x80), b""),
        (Siginfo(35, -1, sender=1, fields=b"abc"), b"abc"),
    ],
    ids=["fault", "child", "queued", "kernel", "as given"],
)
def test_siginfo(info: Siginfo, fields: bytes) -> None:
    packed = siginfo.pack(info)
    assert packed == (struct.pack("<iiii", info.signo, 0, info.code, 0) + fields).ljust(128, b"\0")


OLD = AltStack(0x10000, 0, 0x4000)


@pytest.mark.parametrize(
    ("new", "sp", "answer"),
    [
        (AltStack(0x20000, SS_ONSTACK, 2048), 0x1000, AltStack(0x20000, SS_ONSTACK, 2048)),
        (AltStack(0x20000, 0, 2047), 0x1000, "ENOMEM"),
        (AltStack(0x20000, 4, 4096), 0x1000, "EINVAL"),
        (AltStack(0x20000, 0, 4096), 0x12000, "EPERM"),
        (AltStack(0x20000, SS_DISABLE, 4096), 0x1000, AltStack(0, SS_DISABLE, 0)),
        (AltStack(0x20000, SS_AUTODISARM, 4096), 0x1000, AltStack(0x20000, SS_AUTODISARM, 4096)),
    ],
)
def test_sigaltstack(new: AltStack, sp: int, answer: AltStack | str) -> None:
    if isinstance(answer, str):
        with pytest.raises(Errno, match=answer):
            set_altstack(OLD, new, sp)
    else:
        assert set_altstack(OLD, new, sp) == answer


def test_an_autodisarmed_stack_is_never_in_use() -> None:
    assert sigframe.altstack_flags(AltStack(0x10000, 0, 0x4000), 0x12000) == SS_ONSTACK
    assert sigframe.altstack_flags(AltStack(0x10000, SS_AUTODISARM, 0x4000), 0x12000) == 0
    assert sigframe.altstack_flags(AltStack(), 0x12000) == SS_DISABLE
