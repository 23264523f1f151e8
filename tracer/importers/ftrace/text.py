"""The text of trace, of trace_pipe, and of `trace-cmd report`, line by line.

    TASK-PID ( TGID) [CPU] FLAGS TIME: EVENT       the TGID and the FLAGS may be missing

EVENT is `name: key=value…`, a probe's is `name: (function+0x4/0xb0) key=value…`. System calls come
as `sys_enter: NR 220 (…)` from raw_syscalls, or as `sys_clone(flags: 0x11, …)` and `sys_clone ->
0x5b` from syscalls. Lines that don't look like an event are skipped: the trace may come from a
console. One that does, and can't be read, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from shstk.schemas.errors import BadRecording
from shstk.schemas.syscalls import SYSCALLS
from shstk.tracer.importers.ftrace.event import LOST, Event, named

# The kernel pads a task's name, which may look like anything, to 16 characters.
_LINE: Final = re.compile(
    r"(?:.{16}|\s*.{1,16}?)-(?P<pid>\d{1,7})\s+(?:\(\s*[\d-]+\)\s+)?\[(?P<cpu>\d{1,4})\]\s+"
    r"(?:[^\s:]{4,9}\s+)?\d+(?:\.\d+)?: +(?P<event>\S.*)"
)
_LIKE_A_LINE: Final = re.compile(r"\[\d{3,4}\]\s[^\[\]]{0,40}\d\.\d{6}: ")
_LONGEST: Final = 8192  # the kernel's trace_seq
_LOST: Final = re.compile(r"\s*CPU:(\d{1,4}) \[(?:LOST )?(\d*) ?EVENTS(?: DROPPED)?\]")
_HEADER: Final = re.compile(
    r"# entries-in-buffer/entries-written: (\d{1,19})/(\d{1,19})\s+#P:(\d{1,4})"
)
_CALL: Final = re.compile(r"sys_(\w+)\((.*)\)")
_ENTER: Final = re.compile(r"sys_enter_(\w+):\s*(.*)")
_RETURN: Final = re.compile(r"sys_(?:exit_)?(\w+)(?: ->|:)\s*(0x[0-9a-f]{1,16}|-?\d{1,19})$")
_RAW_ENTER: Final = re.compile(r"sys_enter:\s*NR (\d{1,9}) \(([0-9a-f, ]*)\)")
_RAW_EXIT: Final = re.compile(r"sys_exit:\s*NR (\d{1,9}) = (-?\d{1,19})")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')  # what a pointer points to
_ARGUMENT: Final = re.compile(r"\w+: (?:0x)?([0-9a-f]{1,16})\b")
_NAMED: Final = re.compile(r"(\w+):\s*(.*)")
_PAIR: Final = re.compile(r"(\w+)=(\S+)")
_NUMBER: Final = re.compile(r"-?\d{1,19}|0x[0-9a-f]{1,16}")
# Events whose text has names of tasks or files, which may look like anything.
_KNOWN: Final = {
    name: tuple(map(re.compile, forms))
    for name, forms in {
        "sched_process_fork": (
            r"comm=.* pid=(?P<pid>\d{1,7}) child_comm=.* child_pid=(?P<child_pid>\d{1,7})",
        ),
        "sched_process_exec": (
            r"filename=(?P<filename>.*) pid=(?P<pid>\d{1,7}) old_pid=(?P<old_pid>\d{1,7})",
        ),
        "sched_process_exit": (r"comm=.* pid=(?P<pid>\d{1,7}) prio=",),
        "sched_wakeup_new": (
            r"comm=.* pid=(?P<pid>\d{1,7}) prio=",
            r".*:(?P<pid>\d{1,7}) \[",  # of trace-cmd report
        ),
        "sched_switch": (
            r"prev_comm=.* prev_pid=(?P<prev_pid>\d{1,7}) prev_prio=-?\d+ "
            r"prev_state=(?P<prev_state>\S+) ==> next_comm=.* next_pid=(?P<next_pid>\d{1,7})",
            # of trace-cmd report
            r".*:(?P<prev_pid>\d{1,7}) \[-?\d+\] (?P<prev_state>\S+) ==> "
            r".*:(?P<next_pid>\d{1,7}) \[",
        ),
        "tracing_mark_write": (r"(?P<text>.*)",),
        "print": (r"(?:\w+: )?(?P<text>.*)",),
    }.items()
}
_HEX: Final = ("sa_handler", "sa_flags")  # of signal_deliver: printed without 0x
# A system call's name in ftrace is that of its function.
_NUMBERS: Final = {name: call.number for name, call in SYSCALLS.items()} | {
    "newuname": SYSCALLS["uname"].number,
    "newfstat": SYSCALLS["fstat"].number,
}


def header(lines: Iterable[str]) -> tuple[int, int]:
    """How many harts a trace's header names, and how many events were overwritten; 0 if it has no
    header."""
    for line in lines:
        if found := _HEADER.match(line):
            return int(found[3]), int(found[2]) - int(found[1])
    return 0, 0


def events(lines: list[str], where: str) -> Iterator[Event]:
    """The events of a trace's lines, in order. where: the file, for a message. Raises
    BadRecording."""
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST:
            continue
        if lost := _LOST.match(line):
            yield Event(0, int(lost[1]), LOST, _typed([("count", lost[2])]))
            continue
        found = _LINE.match(line)
        event = found and _event(int(found["pid"]), int(found["cpu"]), found["event"])
        if event and event.whole:
            yield event
        elif number < len(lines) and (
            found or _LIKE_A_LINE.search(line)
        ):  # the last may be cut off
            raise BadRecording(
                f"{where}:{number}: the event can't be read: {line.strip()[:100]!r}",
                "a file that was copied from a console may be garbled; record it into a file",
            )


def _event(pid: int, cpu: int, text: str) -> Event | None:
    for pattern, make in _FORMS:
        if found := pattern.match(text):
            return make(pid, cpu, found)
    return Event(pid, cpu, "")  # such as a function that the function tracer prints


def _raw_enter(pid: int, cpu: int, found: re.Match[str]) -> Event:
    args = tuple(int(word, 16) % 2**64 for word in re.findall(r"[0-9a-f]{1,16}", found[2]))
    return Event(pid, cpu, "sys_enter", {"id": int(found[1])}, args)


def _raw_exit(pid: int, cpu: int, found: re.Match[str]) -> Event:
    return Event(pid, cpu, "sys_exit", {"id": int(found[1]), "ret": int(found[2])})


def _call(pid: int, cpu: int, found: re.Match[str]) -> Event:
    number = _NUMBERS.get(found[1])
    if number is None:
        return Event(pid, cpu, found[1])
    args = tuple(int(word, 16) for word in _ARGUMENT.findall(_STRING.sub("", found[2])))
    return Event(pid, cpu, "sys_enter", {"id": number}, args)


def _return(pid: int, cpu: int, found: re.Match[str]) -> Event:
    number = _NUMBERS.get(found[1])
    if number is None:
        return Event(pid, cpu, found[1])
    ret = int(found[2], 0)
    ret -= 2**64 if ret >= 2**63 else 0
    return Event(pid, cpu, "sys_exit", {"id": number, "ret": ret})


def _named(pid: int, cpu: int, found: re.Match[str]) -> Event | None:
    name, rest = named(found[1]), found[2]
    if name not in _KNOWN:
        return Event(pid, cpu, name, _typed(_PAIR.findall(rest)))
    for form in _KNOWN[name]:
        if known := form.match(rest):
            return Event(pid, cpu, name, _typed(known.groupdict().items()))
    return None


def _typed(pairs: Iterable[tuple[str, str]]) -> dict[str, int | str]:
    return {key: _value(key, value) for key, value in pairs}


def _value(key: str, value: str) -> int | str:
    if key in _HEX and re.fullmatch(r"[0-9a-f]+", value):
        return int(value, 16)
    if key in ("filename", "text") or not _NUMBER.fullmatch(value):
        return value
    return int(value, 0) if value.startswith("0x") else int(value)


_Make = Callable[[int, int, "re.Match[str]"], Event | None]
_FORMS: Final[tuple[tuple[re.Pattern[str], _Make], ...]] = (
    (_RAW_ENTER, _raw_enter),
    (_RAW_EXIT, _raw_exit),
    (_CALL, _call),
    (_ENTER, _call),
    (_RETURN, _return),
    (_NAMED, _named),
)
