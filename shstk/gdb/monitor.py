"""The commands of `monitor`: what gdb itself can't know about a recording."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from shstk.replay.symbols import Symbols
from shstk.schemas import seq as positions
from shstk.schemas.errors import ShstkError
from shstk.schemas.seq import STEPS
from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.disassembly.disassemble import disassemble

if TYPE_CHECKING:
    from shstk.gdb.target import Target
    from shstk.replay.run import Run
    from shstk.tracer.kernel.task import Task


@dataclass(frozen=True)
class _Command:
    usage: str
    help: str
    run: Callable[[Target, int, list[str]], str]


def answer(target: Target, tid: int, line: str) -> str:
    """The output of a command, given the chosen thread."""
    name, *words = line.split() or ["help"]
    found = [word for word in _COMMANDS if word.startswith(name)]
    if len(found) != 1 and name not in _COMMANDS:
        return f"monitor {name}: no such command; known: {', '.join(_COMMANDS)}\n"
    command = _COMMANDS[name if name in _COMMANDS else found[0]]
    try:
        return command.run(target, tid, words)
    except ShstkError as error:
        return f"{error}\n"
    except (ValueError, OverflowError) as error:
        return f"{error}\nusage: monitor {command.usage}\n"


@cache
def _symbols(run: Run) -> Symbols:
    return Symbols(run)


def _where(target: Target, tid: int, words: list[str]) -> str:
    """The position of the next instruction: `goto` takes it."""
    _no_more(words)
    end = f"of {target.record.end}.0"
    task = target.guest.next_task
    if task is None:
        return f"after {target.place}.0, {end}: the run ends here ({target.guest.next})\n"
    seq = (target.place + 1) * STEPS
    place = _symbols(target.run).at(task.mm_id, task.hart.pc, seq)
    spot = f"{task.hart.pc:#x}" + (f" {place}" if place else "")
    text = f"before {positions.show(seq)} {end}: task {task.tid} of {task.pid}, {spot}\n"
    return text + f"  {_instruction(task)}\n"


def _instruction(task: Task) -> str:
    """As `shstk replay --trace insn` shows it; gdb may not know those of Zicfiss."""
    low = task.space.read(task.hart.pc, 2, force=True)
    if low is None:
        return "nothing is mapped there"
    high = task.space.read(task.hart.pc + 2, 2, force=True) if low[0] & 3 == 3 else b""
    return disassemble(int.from_bytes(low + (high or b""), "little"), task.hart.pc)


def _goto(target: Target, tid: int, words: list[str]) -> str:
    if len(words) != 1:
        raise ValueError("goto needs a position")
    at = {"begin": 0, "end": (target.record.end + 1) * STEPS}.get(words[0])
    if at is None:
        at = positions.parse(words[0])
        target.run.must_reach(at, f"goto {words[0]}")
    target.go(at)
    return _where(target, tid, [])


def _stacks(target: Target, tid: int, words: list[str]) -> str:
    """`shstk stacks --at` this place."""
    from shstk.cli.stacks import write_text
    from shstk.replay.stacks import stacks

    addr = int(words[0], 0) if words else None
    _no_more(words[1:])
    found = stacks(target.run, at=(target.place + 1) * STEPS - 1, addr=addr)
    if found.is_empty():
        return "no shadow stack stands here" + (f" at {addr:#x}\n" if addr is not None else "\n")
    out = io.StringIO()
    write_text(found, out)
    return out.getvalue()


def _explain(target: Target, tid: int, words: list[str]) -> str:
    """The fault at a position, or else that of the next instruction, or else the run's last."""
    from shstk.replay.explain import explain
    from shstk.replay.explain.text import text

    _no_more(words[1:])
    seq = positions.parse(words[0]) if words else None
    if seq is None and target.record.fault(target.place, _next_tid(target)) is not None:
        seq = (target.place + 1) * STEPS
    told = [text(each) for each in explain(target.run, seq)]
    return "\n".join(told) or "no fault ended a task\n"


def _next_tid(target: Target) -> int:
    task = target.guest.next_task
    return task.tid if task else 0


def _catch(target: Target, tid: int, words: list[str]) -> str:
    """What `catch syscall` does, which gdb does not have for RISC-V."""
    if not words:
        raise ValueError("catch needs the name of a system call, or `all`, or `off`")
    unknown = [word for word in words if word not in (*SYSCALLS, "all", "off")]
    if unknown:
        raise ValueError(f"no system call is called {unknown[0]}")
    target.silently = True
    if "off" in words:
        target.caught = None
        return "no system call is caught\n"
    every = "all" in words
    target.caught = frozenset() if every else frozenset(SYSCALLS[w].number for w in words)
    told = "every system call" if every else ", ".join(words)
    return f"caught before and after: {told}\n"


def _maps(target: Target, tid: int, words: list[str]) -> str:
    """/proc/PID/maps of the chosen thread."""
    from shstk.tracer.kernel.proc.memtext import maps

    _no_more(words)
    task = target.task(tid)
    return maps(target.guest.k, task).decode("utf-8", "replace") if task else "no such thread\n"


def _help(target: Target, tid: int, words: list[str]) -> str:
    width = max(len(command.usage) for command in _COMMANDS.values())
    return "".join(f"monitor {c.usage:{width}}  {c.help}\n" for c in _COMMANDS.values())


def _no_more(words: list[str]) -> None:
    if words:
        raise ValueError(f"{words[0]!r} is one word too many")


_COMMANDS: Final = {
    "where": _Command("where", "The position of the next instruction, and whose it is.", _where),
    "goto": _Command(
        "goto SEQ|begin|end",
        "Go before the instruction at SEQ (1351), or after it and the kernel's steps (1351.1).",
        _goto,
    ),
    "stacks": _Command(
        "stacks [ADDR]", "The shadow stacks that stand here: whose, made by whom.", _stacks
    ),
    "explain": _Command(
        "explain [SEQ]", "Why the next instruction, or the one at SEQ, faults.", _explain
    ),
    "catch": _Command("catch CALL...|all|off", "Stop before and after these system calls.", _catch),
    "maps": _Command("maps", "The mappings of the chosen thread's process.", _maps),
    "help": _Command("help", "This list.", _help),
}
