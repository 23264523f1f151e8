"""--enable-cfi: the loader issues the prctls that a libc would issue for its program.

They are recorded before the first instruction as `syscalls` rows with the outcome `loader`, so that
the rules check them like any other. `auto` enables the features that all objects are marked with,
as ld.so would: the program, its interpreter and every library they need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shstk.schemas.errors import BadProgram
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_LP_UNLABELED as LANDING_PADS
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_SS as SHADOW_STACK
from shstk.schemas.uapi import (
    PR_CFI_BRANCH_LANDING_PADS,
    PR_CFI_ENABLE,
    PR_SET_CFI,
    PR_SHADOW_STACK_ENABLE,
)
from shstk.tracer import elf, libraries
from shstk.tracer.kernel.arch import shstk
from shstk.tracer.kernel.call import Args
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import Regular
from shstk.tracer.kernel.process.binfmt import Program
from shstk.tracer.kernel.tree import sandbox
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task


def before_first_instruction(k: Kernel, t: Task, program: Program) -> None:
    """Called after execve has succeeded."""
    if k.enable_cfi == "off":
        return
    features = SHADOW_STACK | LANDING_PADS
    if k.enable_cfi == "auto":
        for image in _objects(k, t, program):
            features &= image.features if image else 0
    if features & SHADOW_STACK:
        option = shstk.first_number(k) + 1
        _prctl(k, t, (option, PR_SHADOW_STACK_ENABLE, 0, 0, 0, 0))
    if features & LANDING_PADS:
        pads = (PR_CFI_BRANCH_LANDING_PADS, PR_CFI_ENABLE)
        _prctl(k, t, (PR_SET_CFI, *pads, 0, 0, 0))


def _prctl(k: Kernel, t: Task, a: Args) -> None:
    outer, seq, ssp = k.during, k.seq(), t.hart.ssp
    k.during = seq
    try:
        ret = shstk.prctl(k, t, a)
    except Errno as error:
        ret = -error.number
    k.during = outer
    k.rec.row(
        "syscalls",
        seq=seq,
        tid=t.tid,
        mm=t.mm_id,
        seq_end=k.seq(),
        nr=SYSCALLS["prctl"].number,
        name="prctl",
        **{f"a{i}": value for i, value in enumerate(a)},
        ret=ret,
        outcome="loader",
        pc=t.hart.pc,
        sp=t.hart.x(2),
        ssp_entry=ssp,
        ssp_exit=t.hart.ssp,
        state_hash=t.hart.state_hash(),
    )


def _objects(k: Kernel, t: Task, program: Program) -> Iterator[elf.Image | None]:
    """The program, its interpreter and all libraries; None for one that can't be read."""
    yield program.image
    if program.interpreter is None:
        return
    yield program.interpreter[1]

    def read(path: str) -> bytes | None:
        try:
            inode = sandbox.find(k, t, AT_FDCWD, path).existing()
        except Errno:
            return None
        if not isinstance(inode, Regular):
            return None
        inode.see(k)
        return bytes(inode.contents())

    path, data = program.file.guest_path, program.file.data
    for library, found in libraries.needed(path, data, _environ(t), read):
        try:
            yield elf.parse(found, library) if found is not None else None
        except BadProgram:
            yield None


def _environ(t: Task) -> dict[str, str]:
    assert t.mm is not None
    start, end = t.mm.envs
    strings = (t.space.read(start, end - start) or b"").decode("utf-8", "surrogateescape")
    return dict(s.split("=", 1) for s in strings.split("\0") if "=" in s)
