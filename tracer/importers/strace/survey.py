"""What a first reading of a text tells: whose children are whose, and what the machine can do."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shstk.schemas.uapi import PR_GET_CFI, PR_SET_CFI
from shstk.tracer.importers.strace.calls import CLONES, name_of
from shstk.tracer.importers.strace.text import Part, Source
from shstk.tracer.importers.strace.values import members, number, result, split

_PADS: Final = (PR_GET_CFI, PR_SET_CFI)
_SHADOW: Final = (72, 73, 74, 75, 76)  # of the merged kernel, and of the revisions before
_OWN: Final = ("set_tid_address", "gettid", "getpid")  # the first tells the first task's tid
# What its lines have in common.
_WANTED: Final = re.compile(
    r"clone|prctl|map_shadow_stack|syscall_0x|uname|set_tid_address|gettid|getpid|\[pid"
)
_RELEASE: Final = re.compile(r"\d{1,9}\.\d{1,9}\b")


@dataclass
class Survey:
    """children: of each tid, the results of the clones that made a task of it, in order: their
    place and caller.

    first: the first task's tid, where the text names it late. asked, answered: which of Zicfiss
    and Zicfilp a call asked for, and for which one succeeded.
    """

    children: dict[int, deque[tuple[str, int | None]]] = field(default_factory=dict)
    first: int | None = None
    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    banner: str = ""

    def read(self, source: Source) -> None:
        """Raises BadRecording."""
        opened: dict[int | None, str] = {}
        made: set[int] = set()
        brackets: list[int] = []
        for part in source.parts(_WANTED):
            if part.pid is not None and part.pid not in opened:
                brackets.append(part.pid)
                opened[part.pid] = ""
            if part.kind == "begin":
                opened[part.pid] = part.text
            elif part.kind in ("whole", "end"):
                text = opened.get(part.pid, "") + part.text if part.kind == "end" else part.text
                self._call(part, text, made)
        if self.first is None or self.first in made:
            self.first = next((pid for pid in brackets if pid not in made), self.first)

    def _call(self, part: Part, text: str, made: set[int]) -> None:
        name, returned = name_of(part.name), result(part.result)
        if name in CLONES and returned and returned > 0:
            self.children.setdefault(returned, deque()).append((part.where, part.pid))
            made.add(returned)
        elif name in _OWN and self.first is None and returned and returned > 0:
            self.first = returned
        elif name == "uname" and not self.banner:
            told = members(text.strip("{}"))
            release = told.get("release", "").strip('"')
            if _RELEASE.match(release):
                self.banner = f"Linux version {release}"
        elif name == "map_shadow_stack":
            self._asked("zicfiss", returned is not None and not -4096 < returned < 0)
        elif name == "prctl":
            option = number(next(iter(split(text)), ""))
            if option in _PADS:
                self._asked("zicfilp", returned == 0)
            elif option in _SHADOW:
                self._asked("zicfiss", returned == 0)

    def _asked(self, extension: str, succeeded: bool) -> None:
        self.asked.add(extension)
        if succeeded:
            self.answered.add(extension)
