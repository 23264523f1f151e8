"""The lines of strace, whatever options it had: what each says, and of which task."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shstk.schemas.errors import BadRecording
from shstk.tracer.importers.lines import Lines

# -f, -o and -Y name the task; -t, -tt, -ttt and -r the time; -n and -i the call and the pc.
_PREFIX: Final = re.compile(
    r"(?:\[pid +(?P<bracket>\d{1,7})(?:<[^>]*>)?\] |(?P<column>\d{1,7})(?:<[^>]*>)? +(?=\S| ))?"
    r" *(?:(?P<clock>\d\d:\d\d:\d\d(?:\.\d{1,9})?)|(?P<stamp>\d{1,12}\.\d{1,9}))? *"
    r"(?:\(\+ +\d+\.\d+\) )?(?:\[ *\d{1,4}\] )?(?:\[[0-9a-f?]{8,16}\] )?"
)
_NAME: Final = r"(?P<name>[a-z_]\w*|\?{4})"
_WHOLE: Final = re.compile(
    rf"{_NAME}\((?P<text>.*)\) += (?P<result>\?|-?\d+|0x[0-9a-f]+)(?P<rest>.*)", re.DOTALL
)
_END: Final = re.compile(
    rf"<\.\.\. {_NAME} resumed>(?P<text>.*)\) += (?P<result>\?|-?\d+|0x[0-9a-f]+)(?P<rest>.*)",
    re.DOTALL,
)
_OPENED: Final = re.compile(rf"{_NAME}\((?P<text>.*)", re.DOTALL)
_ATTACHED: Final = re.compile(r"(?:(?:/(?:[\w.+-]+/)+)?strace: )?Process \d{1,7} attached$")
_SIGNAL: Final = re.compile(r"--- (?P<name>SIG\w+|\d{1,2}) \{(?P<text>.*)\} ---")
_STOPPED: Final = re.compile(r"--- stopped by .* ---")
_EXITED: Final = re.compile(r"\+\+\+ exited with (\d{1,3}) \+\+\+")
_KILLED: Final = re.compile(r"\+\+\+ killed by (\w+)(?P<dumped> \(core dumped\))? \+\+\+")
_SUPERSEDED: Final = re.compile(r"\+\+\+ superseded by execve in pid (\d{1,7})(?:<.*>)? \+\+\+")
_MESSAGE: Final = re.compile(
    r"(?:[\w./+-]*strace: |Process \d+ (?:attached|detached)| > |\[ Process PID=)"
)
_NARROW: Final = re.compile(r"Process PID=\d+ runs in (?!64)")
_SUMMARY: Final = re.compile(r"% time +seconds +usecs/call")  # of -C: nothing follows
# What can only be strace's, so that it is an error if it can't be read.
_LIKE: Final = re.compile(r"\[pid +\d|(?:---|\+\+\+|<\.\.\.) |[a-z_]\w*\(.*\) += (?:\?|-?\d|0x)")
_SUFFIX: Final = re.compile(r"\.(\d{1,7})(?:\.(?:gz|xz|zst))?$")
_AS_ERROR: Final = 100  # characters


@dataclass(slots=True)
class Part:
    """A line. kind: whole, begin or end (of a call), signal, exited, killed, superseded.

    pid: None where strace names none, for there is only one task. text: of the arguments, or of the
    siginfo. result: what follows `= `. number: the status, the signal's name or the pid.
    """

    where: str  # FILE:LINE
    pid: int | None
    kind: str
    name: str = ""
    text: str = ""
    result: str = ""
    number: str = ""


@dataclass
class Source:
    """Texts of one strace: a file, or those that -ff wrote, one a task.

    cut, others: as far as they were read: the files whose last line has no end, and the lines that
    are no part of strace's.
    """

    paths: tuple[Path, ...]
    cut: set[Path] = field(default_factory=set)
    others: int = 0

    def parts(self, wanted: re.Pattern[str] | None = None) -> Iterator[Part]:
        """All lines, in order, or those in which something is wanted. Raises BadRecording."""
        self.others = 0
        timed = len(self.paths) > 1
        files = [self._read(path, timed, wanted) for path in self.paths]
        yield from (part for _, part in heapq.merge(*files, key=lambda one: one[0]))

    def _read(
        self, path: Path, timed: bool, wanted: re.Pattern[str] | None
    ) -> Iterator[tuple[tuple[float, str], Part]]:
        lines, column, own = Lines(path), None, _SUFFIX.search(path.name)
        day, last = 0.0, 0.0
        for number, line in _joined(lines):
            if wanted and column is not None and not wanted.search(line):
                continue
            if _SUMMARY.match(line):
                break
            prefix = _prefix_of(line)
            if column is None and line:
                column = prefix["column"] is not None
            if timed and line and not _MESSAGE.match(line):
                stamp = _stamp(prefix, f"{path}:{number}") + day
                if stamp < last - 43_200:  # -tt has no day
                    day, stamp = day + 86_400, stamp + 86_400
                last = stamp
            if (part := self._part(path, number, line, prefix, bool(column))) is None:
                continue
            if part.pid is None and own:
                part.pid = int(own[1])
            yield (last, path.name), part
        if lines.cut:
            self.cut.add(path)

    def _part(
        self, path: Path, number: int, line: str, prefix: re.Match[str], column: bool
    ) -> Part | None:
        where = f"{path}:{number}"
        if _NARROW.search(line):
            raise BadRecording(f"{where}: the program is none of 64 bits: {line[:_AS_ERROR]}")
        if _MESSAGE.match(line) or not line:
            return None
        start = prefix.end()
        pid = prefix["bracket"] or prefix["column"]
        part = _said(line[start:], where, int(pid) if pid and (column or line[0] == "[") else None)
        if part is not None:
            return part
        if line[start:].startswith(_QUIET) or _STOPPED.fullmatch(line[start:]):
            return None
        if column or _LIKE.match(line[start:]) or _LIKE.match(line):
            raise BadRecording(
                f"{where}: not a line of strace: {line.strip()[:_AS_ERROR]!r}",
                "expected a call such as `100 prctl(0x4b, 0x1, 0, 0, 0) = 0`, a signal or an exit;"
                " record into a file of its own with -o",
            )
        self.others += 1
        return None


_QUIET: Final = ("strace: ", "> ")  # messages, and the stacks of -k


def _stamp(prefix: re.Match[str], where: str) -> float:
    if prefix["stamp"]:
        return float(prefix["stamp"])
    if prefix["clock"]:
        hours, minutes, seconds = prefix["clock"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    raise BadRecording(
        f"{where}: the line has no time, so several files cannot be put in order",
        "record with -ff -ttt, or into one file with -f",
    )


def _joined(lines: Lines) -> Iterator[tuple[int, str]]:
    """The lines; one that strace broke off, to say that it attached a task, is joined with the next
    if that goes on with it."""
    held = ""
    number = 0
    for number, line in lines:
        if held:
            rest = line[_prefix_of(line).end() :]
            if (
                _said(rest, "", None) is None
                and _said(held[_prefix_of(held).end() :] + line, "", None) is not None
            ):
                line = held + line
            else:
                yield number - 1, f"{held} <unfinished ...>"
            held = ""
        attached = _ATTACHED.search(line)
        if attached and attached.start():
            held = line[: attached.start()]
        else:
            yield number, line
    if held:
        yield number, f"{held} <unfinished ...>"


def _prefix_of(line: str) -> re.Match[str]:
    found = _PREFIX.match(line)
    assert found is not None  # each of its pieces may be missing
    return found


def _said(text: str, where: str, pid: int | None) -> Part | None:
    first = text[:1]
    if first == "<":
        if found := _END.fullmatch(text):
            return _call(where, pid, "end", found)
        return None
    if first == "-":
        if found := _SIGNAL.fullmatch(text):
            return Part(where, pid, "signal", text=found["text"], number=found["name"])
        return None
    if first == "+":
        if found := _EXITED.fullmatch(text):
            return Part(where, pid, "exited", number=found[1])
        if found := _KILLED.fullmatch(text):
            return Part(where, pid, "killed", text=found["dumped"] or "", number=found[1])
        if found := _SUPERSEDED.fullmatch(text):
            return Part(where, pid, "superseded", number=found[1])
        return None
    if text.endswith(" ...>"):
        found = _OPENED.fullmatch(text[: text.rfind("<")].removesuffix(" "))
        return found and Part(where, pid, "begin", found["name"], found["text"])
    found = _WHOLE.fullmatch(text)
    return found and _call(where, pid, "whole", found)


def _call(where: str, pid: int | None, kind: str, found: re.Match[str]) -> Part:
    result = found["result"] + found["rest"]
    return Part(where, pid, kind, found["name"], found["text"], result)
