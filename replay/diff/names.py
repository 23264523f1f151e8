"""Names for values that are comparable across runs: tasks by path, addresses by what is mapped.

An address in a file that both runs mapped with the same contents is named by its offset, an address
in a rebuilt file by its symbol. An address in a stack, the heap or anonymous memory is named by the
area alone (`exact` adds the offset), because allocators and stack frames depend on scheduling and
on the environment.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shstk.replay import decode
from shstk.replay.derive.history import Task
from shstk.replay.derive.regions import Region
from shstk.replay.derive.stacks import Stack
from shstk.replay.diff.descriptors import Descriptors, opens
from shstk.replay.diff.tasks import Cast
from shstk.replay.facts import Facts
from shstk.replay.symbols import Symbols
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import ERRNO_NAMES, PAGE, PROT_EXEC

_NONE_BELOW: Final = 0x10000  # nothing is mapped below: such a number is not an address
OWN: Final = "its own"
_USER_TOP: Final = 1 << 47
_PROC: Final = re.compile(r"(?<=/proc/)\d+|(?<=/task/)\d+")
_HEX: Final = re.compile(r"0x[0-9a-f]{5,16}")

_NAMED_SOCKETS: Final = frozenset({"connect", "bind"})
_SUN_PATH: Final = 2  # in struct sockaddr_un, bytes


@dataclass(frozen=True)
class Common:
    """What both runs share: the files with equal contents (sha256), and the program's name.
    places: whether both know what is mapped at an address that is on no shadow stack."""

    files: frozenset[str]
    program: str  # the name of the program itself
    places: bool = True


class Names:
    """The names of one run's values. mm, seq: the address space and position of a value."""

    def __init__(
        self, facts: Facts, cast: Cast, symbols: Symbols, common: Common, exact: bool
    ) -> None:
        self._facts = facts
        self._cast = cast
        self._symbols = symbols
        self._common = common
        self._exact = exact
        self.descriptors = Descriptors()
        self._fresh: dict[str, str] = {}  # files created with O_EXCL, often under random names
        rows = facts.run.table("inputs").select("input", "sha256", "guest_path").iter_rows()
        self._inputs = {input: (sha256, path) for input, sha256, path in rows}

    # Tasks

    def tid(self, tid: int | None, seq: int) -> str:
        """The path of the task with this tid; the number itself if there is none."""
        task = self._cast.at(tid, seq)
        return self._cast.path(task) if task else str(tid)

    def pid(self, value: int, seq: int) -> str:
        """A pid argument: 0, -1, a task or, if negative, a process group."""
        number = decode.signed32(value)
        if number in (0, -1):
            return str(number)
        return self.tid(number, seq) if number > 0 else f"-{self.tid(-number, seq)}"

    # Addresses

    def place(self, mm: int | None, address: int, seq: int) -> str:
        """What is mapped at an address; `unmapped` if nothing is."""
        if address < _NONE_BELOW:
            return decode.argument("hex", address) if address else "NULL"
        if address >= _USER_TOP:
            return hex(address)
        region = self._symbols.regions.at(mm, address, seq)
        if not self._common.places and not (region and region.shadow_stack):
            return "an address"
        if region is None:
            return "unmapped"
        if region.shadow_stack:
            stack = self._facts.ledger.at(mm, address, seq)
            name = f"{self.stack(stack, None)} shadow stack" if stack else "shadow stack"
        elif region.input is None:
            name = region.name or "[anonymous]"
        else:
            return self._in_file(mm, address, seq, region)
        return f"{name}+{address - region.start:#x}" if self._exact else name

    def _in_file(self, mm: int | None, address: int, seq: int, region: Region) -> str:
        assert region.input is not None
        sha256, path = self._inputs.get(region.input, ("", ""))
        place = self._symbols.at(mm, address, seq)
        assert place
        same = sha256 in self._common.files or self._exact
        if place.symbol and (same or region.prot & PROT_EXEC):
            return place.name if same else place.symbol
        name = self.file(path)
        return f"{name}+{place.offset:#x}" if same else name

    def file(self, path: str) -> str:
        """The base name of a mapped file; the program has the same name in both runs."""
        program = self._facts.run.manifest.program
        return self._common.program if path == program else os.path.basename(path)

    def stack(self, stack: Stack, actor: Task | None) -> str:
        """The owner of a shadow stack: `its own` if it is the actor's."""
        if stack.owner is not None:
            owner = self._cast.root(stack.owner)
            return OWN if owner is actor else f"{self._cast.path(owner)}'s"
        by = self.tid(stack.by, stack.step)
        if stack.how == "clone":
            return "the failed child's"
        return f"{by}'s {stack.how}" if stack.how != "map_shadow_stack" else f"{by}'s mapped"

    def ssp(self, task: Task, mm: int | None, ssp: int | None, seq: int) -> str:
        """Where a csr ssp points, as seen from a task."""
        if not ssp:
            return "none"
        maker = self._cast.maker(task)
        own = maker.mapped.stack if maker else None
        if own and own.top == ssp:
            return "the top of its own stack"
        if maker and maker.parent_ssp == ssp:
            return "its parent's ssp"
        stack = self._facts.ledger.on(mm, ssp, seq)
        if stack is None:
            return "no shadow stack"
        where = "the top of" if ssp == stack.area.top else "inside"
        return f"{where} {self.stack(stack, task)} stack"

    # Arguments, results, text

    def arguments(
        self,
        task: Task,
        mm: int | None,
        seq: int,
        name: str,
        args: tuple[int, ...],
        strings: Mapping[int, str],
    ) -> list[str]:
        if name == "brk":
            return ["an address" if args[0] else "NULL"]
        if name in _NAMED_SOCKETS and args[1] in strings:
            path = strings[args[1]][_SUN_PATH:].partition("\0")[0]
            socket = self.descriptors.name(task, decode.signed32(args[0]))
            return [socket, self.path(path, mm, seq), str(args[2])]
        if name not in SYSCALLS:
            shown = [self._argument(task, mm, seq, "hex", a, strings) for a in args]
            while shown and shown[-1] == "0":
                shown.pop()
            return shown
        return [
            self._argument(task, mm, seq, type, value, strings)
            for _, type, value in decode.typed(SYSCALLS[name].number, args)
            if value is not None
        ]

    def _argument(
        self,
        task: Task,
        mm: int | None,
        seq: int,
        type: str,
        value: int,
        strings: Mapping[int, str],
    ) -> str:
        if type in ("fd", "dirfd"):
            number = decode.signed32(value)
            known = number >= 0
            return self.descriptors.name(task, number) if known else decode.argument(type, value)
        if type == "pid":
            return self.pid(value, seq)
        if type == "str" and value in strings:
            return self.path(strings[value], mm, seq)
        if type == "end" and value:
            return self.place(mm, value - 1, seq)
        if type in ("ptr", "str") or (type == "hex" and PAGE <= value < _USER_TOP):
            place = self.place(mm, value, seq)
            return hex(value) if type == "hex" and place == "unmapped" else place
        return decode.argument(type, value)

    def created(self, path: str) -> None:
        """Note a file created with O_EXCL: its name is usually random."""
        if not self._exact:
            self._fresh[path] = f"new file in {os.path.dirname(path) or '.'}"

    def path(self, path: str, mm: int | None, seq: int) -> str:
        return self._fresh.get(path) or self.text(path, mm, seq)

    def text(self, text: str, mm: int | None, seq: int) -> str:
        """A path or output, with pids under /proc and addresses of mapped memory named."""

        def task(found: re.Match[str]) -> str:
            return self.tid(int(found[0]), seq)

        def place(found: re.Match[str]) -> str:
            address = int(found[0], 16)
            stack = self._facts.ledger.at(mm, address, seq)
            if stack and stack.area.top == address:
                return f"<top of {self.stack(stack, None)} shadow stack>"
            name = self.place(mm, address, seq)
            return found[0] if name == "unmapped" or name == found[0] else f"<{name}>"

        return _HEX.sub(place, _PROC.sub(task, text))

    def result(
        self, task: Task, name: str, args: tuple[int, ...], ret: int | None, seq: int
    ) -> str:
        if ret is None:
            return "?"
        if -4096 < ret < 0:
            return f"-{ERRNO_NAMES.get(-ret, str(-ret))}"
        if opens(name, args):
            return self.descriptors.name(task, ret)
        returns = SYSCALLS[name].returns if name in SYSCALLS else "int"
        if returns == "pid" and ret:
            any_child = name == "wait4" and decode.signed32(args[0]) in (-1, 0)
            return "a child" if any_child and not self._exact else self.tid(ret, seq)
        if returns == "ptr":
            return "an address" if not self._exact else hex(ret)
        return "a time" if returns == "time" else str(ret)
