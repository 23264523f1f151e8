"""execve: another program in the same task (fs/exec.c, fs/binfmt_elf.c)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SI_KERNEL,
)
from shstk.tracer import elf
from shstk.tracer._core import AddressSpace
from shstk.tracer.kernel.arch import shstk, vdso, vectors
from shstk.tracer.kernel.call import Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.layout import STACK_TOP, mmap_base, page_down, page_up
from shstk.tracer.kernel.mm.mm import Birth, Mm
from shstk.tracer.kernel.mm.vma import MappedFile
from shstk.tracer.kernel.mm.vmalist import VmaList
from shstk.tracer.kernel.process import binfmt, enable_cfi, identity, ptrace
from shstk.tracer.kernel.process import exit as exits
from shstk.tracer.kernel.process.binfmt import NotRunnable, Program
from shstk.tracer.kernel.process.modules import MODULES
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import SIGSEGV
from shstk.tracer.kernel.task import UID, AltStack, Siginfo, Task
from shstk.tracer.kernel.time.timers import TIMERS
from shstk.tracer.kernel.tree import sandbox
from shstk.tracer.kernel.tree.hosttree import text
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, ExecFile

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_MAX_STRING: Final = 32 * PAGE  # MAX_ARG_STRLEN
_MIN_STRINGS: Final = 128 << 10  # all of them; a quarter of RLIMIT_STACK, within these bounds
_MAX_STRINGS: Final = 6 << 20
_STACK_EXPAND: Final = 128 << 10  # stack_expand of setup_arg_pages
_FIXED: Final = MAP_PRIVATE | MAP_FIXED


def sys_execve(k: Kernel, t: Task, a: Args) -> Outcome:
    return _do_execve(k, t, AT_FDCWD, a[0], a[1], a[2], 0)


def sys_execveat(k: Kernel, t: Task, a: Args) -> Outcome:
    return _do_execve(k, t, a[0], a[1], a[2], a[3], a[4])


def _do_execve(
    k: Kernel, t: Task, dirfd: int, path_at: int, argv_at: int, env_at: int, flags: int
) -> int:
    k.event("exec_begin", t)
    no_return = False
    try:
        path = sandbox.get_path(k, t, path_at)
        file = sandbox.open_exec(k, t, path, dirfd, flags)  # alloc_bprm(): before the arguments
        limit = max(min(t.rlimit("STACK") // 4, _MAX_STRINGS), _MIN_STRINGS)
        argv = _strings(k, t, argv_at, limit) or (b"",)
        env = _strings(k, t, env_at, limit - _size(argv))
        program = _find(k, t, file, path, argv, dirfd)
        no_return = True
        begin_new_exec(k, t, program, env)
    except Errno as error:
        if no_return:
            signals.force(k, t, Siginfo(SIGSEGV, SI_KERNEL), fatal=True)
        k.event("exec_done", t, status=-error.number)
        raise
    k.event("exec_done", t, status=0)
    enable_cfi.before_first_instruction(k, t, program)
    ptrace.exec_done(k, t)
    return 0


def _strings(k: Kernel, t: Task, at: int, limit: int) -> tuple[bytes, ...]:
    """Read argv or envp. limit: in bytes. Errno: EFAULT, E2BIG."""
    strings: list[bytes] = []
    while at and (pointer := usermem.get_u64(k, t, at)):
        try:
            strings.append(usermem.get_cstr(k, t, pointer, _MAX_STRING))
        except Errno as error:
            raise Errno("E2BIG" if error.name == "ENAMETOOLONG" else error.name) from None
        limit -= _size(strings[-1:])
        if limit < 0:
            raise Errno("E2BIG")
        at += 8
    return tuple(strings)


def _size(strings: Sequence[bytes]) -> int:
    """Bytes on the new stack: each string with its NUL and the pointer to it."""
    return sum(len(s) + 1 + 8 for s in strings)


def _find(
    k: Kernel, t: Task, file: ExecFile, path: str, argv: tuple[bytes, ...], dirfd: int
) -> Program:
    try:
        return binfmt.find(k, t, file, path, argv, dirfd)
    except NotRunnable as error:
        raise Errno(error.errno) from None


def begin_new_exec(k: Kernel, t: Task, program: Program, env: tuple[bytes, ...]) -> None:
    """The point of no return: kill the other threads and replace the address space."""
    _de_thread(k, t)
    old = t.mm
    if old is not None:
        exits.mm_release(k, t)
    mm = _new_mm(k, t, old)
    t.mm = mm
    if old is not None:
        k.event("mm_dropped", t, mm=old.id, value=old.users - 1)
        exits.mmput(k, old)
    _flush(k, t, program)
    mm.program = program.file.inode
    entry, sp = _load(k, t, mm, program, env)
    _start_thread(k, t, entry, sp)


def _de_thread(k: Kernel, t: Task) -> None:
    """Kill all threads but the caller, which becomes the leader and takes the leader's tid."""
    process = t.process
    for other in list(process.tasks):
        if other is not t:
            exits.do_exit(k, other, 0)
    old = process.leader
    if old is t:
        return
    process.tasks.remove(old)
    process.exited_cpu += old.cpu
    del k.tasks[t.tid]
    t.tid = old.tid
    k.tasks[t.tid] = t


def _new_mm(k: Kernel, t: Task, old: Mm | None) -> Mm:
    birth = Birth(k.seq(), t.tid, "exec", old.id if old else None)
    mm = Mm(k.new_mm_id(), AddressSpace(k.machine), VmaList(), birth)
    mm.base = mmap_base(t.rlimit("STACK"))
    k.mms[mm.id] = mm
    return mm


def _flush(k: Kernel, t: Task, program: Program) -> None:
    """Reset what exec clears: handlers, the alternate stack, descriptors, user pointers."""
    t.process.sighand = t.process.sighand.copy()
    t.process.sighand.flush()
    t.altstack = AltStack()
    t.hart.pmlen = 0
    vectors.start_program(t)
    if t.files.users > 1:
        shared, t.files = t.files, t.files.copy()
        shared.drop(k)
    t.files.close_on_exec(k)
    t.robust_list = t.set_child_tid = 0
    t.comm = text(program.name.rsplit(b"/", 1)[-1][:15])
    t.process.exe, t.process.argv = program.file.guest_path, program.argv
    t.process.dumpable = 1
    t.process.has_execed = True
    identity.start_program(t)
    TIMERS.of(k).forget(k, t.process)


def _load(k: Kernel, t: Task, mm: Mm, program: Program, env: tuple[bytes, ...]) -> tuple[int, int]:
    """Map the program, its interpreter, break, stack and the vdso. Returns (entry, sp)."""
    image = program.image
    align = max(image.align, PAGE)
    bias = elf.ET_DYN_BASE // align * align - image.low // align * align if image.pie else 0
    _map_image(k, mm, program.file, image, bias)
    mm.brk = mm.brk_start = page_up(image.high + bias)
    entry, base = image.entry + bias, 0
    if program.interpreter is not None:
        file, interpreter = program.interpreter
        if interpreter.pie:
            size = page_up(interpreter.high) - interpreter.low
            base = mm.place(size, interpreter.align) - interpreter.low
        _map_image(k, mm, file, interpreter, base)
        entry = interpreter.entry + base
    vector = vdso.place(k, mm) + elf.auxv(image, bias, base, UID)
    random = k.rng.randbytes(16)
    stack = elf.build_stack(STACK_TOP, program.argv, env, program.name, vector, random)
    room = min(_STACK_EXPAND, t.rlimit("STACK"))
    low = page_down(stack.sp) - page_down(room)
    flags = _FIXED | MAP_ANONYMOUS | MAP_GROWSDOWN
    prot = PROT_READ | PROT_WRITE | PROT_EXEC * image.exec_stack
    mm.map(k, low, STACK_TOP - low, prot, flags)
    usermem.put(k, t, stack.sp, stack.data)
    mm.stack_start, mm.args, mm.envs = stack.sp, stack.args, stack.envs
    mm.auxv = b"".join(struct.pack("<QQ", *pair) for pair in stack.auxv)
    return entry, stack.sp


def _map_image(k: Kernel, mm: Mm, file: ExecFile, image: elf.Image, bias: int) -> None:
    mapped = MappedFile(file.guest_path, file.inode, file.input)
    for s in image.segments:
        _map_segment(k, mm, mapped, s, bias)
    areas = [(page_down(s.vaddr + bias), page_up(s.vaddr + bias + s.memsz)) for s in image.code]
    MODULES.of(k).add(k, mm, mapped, bias, areas, image.build_id)


def _map_segment(k: Kernel, mm: Mm, file: MappedFile, s: elf.Segment, bias: int) -> None:
    """Map the file's pages, zero the rest of the last one, then anonymous pages up to memsz."""
    start = page_down(s.vaddr + bias)
    file_end, end = s.vaddr + bias + s.filesz, page_up(s.vaddr + bias + s.memsz)
    anonymous = start
    if s.filesz:
        anonymous = page_up(file_end)
        offset = page_down(s.offset)
        mm.map(k, start, anonymous - start, s.prot, _FIXED, file=file, offset=offset)
        if s.memsz > s.filesz and s.prot & PROT_WRITE:
            mm.space.write(file_end, bytes(anonymous - file_end), force=True)
    if end > anonymous:
        mm.map(k, anonymous, end - anonymous, s.prot, _FIXED | MAP_ANONYMOUS)


def _start_thread(k: Kernel, t: Task, entry: int, sp: int) -> None:
    for i in range(1, 32):
        t.hart.set_x(i, 0)
        t.hart.set_f(i, 0)
    t.hart.set_f(0, 0)
    t.hart.fcsr = 0
    t.hart.set_x(2, sp)
    t.hart.pc = entry
    t.hart.clear_reservation()
    shstk.start_thread(k, t)


CALLS = (
    Call("execve", sys_execve, why="set-user-ID bits are ignored; no binfmt_misc"),
    Call("execveat", sys_execveat, why="set-user-ID bits are ignored; no binfmt_misc"),
)
