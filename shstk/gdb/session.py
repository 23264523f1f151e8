"""One gdb: its packets, and the answers. Each request has a row in a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shstk.gdb import monitor, objects, signals
from shstk.gdb.files import Files
from shstk.gdb.packets import INTERRUPT, SIZE, Connection
from shstk.gdb.registers import REGISTERS, registers_of
from shstk.gdb.target import BREAKS, SIGINT, WATCHES, Point, Stop, Target
from shstk.schemas.errors import ShstkError
from shstk.tracer.kernel.task import Task

_READ_ONLY: Final = b"E.a recording is read-only"
_FEATURES: Final = (
    "multiprocess+",
    "swbreak+",
    "hwbreak+",
    "fork-events+",
    "vfork-events+",
    "exec-events+",
    "vContSupported+",
    "QStartNoAckMode+",
    "QCatchSyscalls+",
    "QPassSignals+",
    "ReverseStep+",
    "ReverseContinue+",
    *(f"qXfer:{name}:read+" for name in objects.OBJECTS),
)
_PAGE: Final = 4096


class Session:
    """over: gdb has detached or has killed its target."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self.over = False
        self._connection = connection
        self._target = target
        self._files = Files(target)
        self._tid = target.stop.tid  # of Hg: whose registers and memory
        self._resumed = 0  # of Hc: who steps; 0 or less: any

    def serve(self) -> None:
        """Until it is over. Raises packets.Gone."""
        while not self.over:
            packet = self._connection.receive()
            self._connection.send(self._answer(packet))
            if packet == b"QStartNoAckMode":
                self._connection.acknowledged = False

    def _answer(self, packet: bytes) -> bytes:
        if packet == INTERRUPT:  # it was not running
            return self._stopped(Stop(self._target.stop.pid, self._target.stop.tid, SIGINT))
        try:
            for head, answer in _REQUESTS.items():
                if packet.startswith(head):
                    return answer(self, packet[len(head) :])
        except (ValueError, IndexError):
            return b"E16"
        except ShstkError as error:
            return b"E." + error.what.encode()
        return b""

    # What gdb is, and what it wants to know.

    def tell_features(self, text: bytes) -> bytes:
        told = text.decode("ascii", "replace").lstrip(":").split(";")
        self._target.features = frozenset(word[:-1] for word in told if word.endswith("+"))
        return ";".join((f"PacketSize={SIZE:x}", *_FEATURES)).encode()

    def is_attached(self, text: bytes) -> bytes:
        return b"1"

    def agree(self, text: bytes) -> bytes:
        return b"OK"

    def pass_signals(self, text: bytes) -> bytes:
        numbers = frozenset(int(word, 16) for word in text.split(b";") if word)
        self._target.passed = signals.from_gdb(numbers)
        return b"OK"

    def catch_calls(self, text: bytes) -> bytes:
        on, *numbers = text.split(b";")
        calls = frozenset(int(word, 16) for word in numbers if word)
        self._target.caught = calls if on == b"1" else None
        self._target.silently = False
        return b"OK"

    def set_non_stop(self, text: bytes) -> bytes:
        return b"OK" if text == b"0" else b"E.the threads of a recording run and stop together"

    def detach(self, text: bytes) -> bytes:
        """Of one process (D;PID, vKill;PID), which is no longer shown, or of all (D, k). What gdb
        kills goes on as it did when it was recorded."""
        if text.startswith(b";"):
            self._target.attached.discard(int(text[1:], 16))
            self.over = not self._target.attached
        else:
            self.over = True
        return b"OK"

    # Threads.

    def _id(self, tid: int) -> bytes:
        if "multiprocess" in self._target.features:
            return b"p%x.%x" % (self._target.record.pid(tid), tid)
        return b"%x" % tid

    def current_thread(self, text: bytes) -> bytes:
        return b"QC" + self._id(self._target.stop.tid)

    def all_threads(self, text: bytes) -> bytes:
        return b"m" + b",".join(self._id(task.tid) for task in self._target.tasks())

    def no_more_threads(self, text: bytes) -> bytes:
        return b"l"

    def is_alive(self, text: bytes) -> bytes:
        return b"OK" if self._target.task(_tid(text)) else b"E03"

    def choose_thread(self, text: bytes) -> bytes:
        tid = _tid(text[1:])
        if text[:1] == b"c":
            self._resumed = tid
            return b"OK"
        if tid <= 0:
            tid = self._target.stop.tid
        self._tid = tid
        return b"OK" if self._target.task(tid) else b"E03"

    def _task(self) -> Task | None:
        return self._target.task(self._tid)

    # Registers and memory.

    def read_registers(self, text: bytes) -> bytes:
        task = self._task()
        return b"E03" if task is None else registers_of(task).hex().encode()

    def read_register(self, text: bytes) -> bytes:
        task, number = self._task(), int(text, 16)
        if task is None or number >= len(REGISTERS):
            return b"E03"
        return REGISTERS[number].bytes(task).hex().encode()

    def read_memory(self, text: bytes) -> bytes:
        """As much as can be read."""
        address, length = (int(word, 16) for word in text.split(b","))
        task = self._task()
        if task is None or task.mm is None:
            return b"E03"
        end = min(address + min(length, SIZE // 2 - 8), 2**64)
        data = b""
        while address < end:
            step = min(end - address, _PAGE - address % _PAGE)
            piece = task.mm.space.read(address, step, force=True)
            if piece is None:
                break
            data, address = data + piece, address + step
        return data.hex().encode() if data or not length else b"E0e"

    def refuse(self, text: bytes) -> bytes:
        return _READ_ONLY

    def set_point(self, text: bytes) -> bytes:
        point = self._point(text)
        if point is None:
            return b""
        self._target.points.add(point)
        return b"OK"

    def remove_point(self, text: bytes) -> bytes:
        point = self._point(text)
        if point is None:
            return b""
        self._target.points.discard(point)
        return b"OK"

    def _point(self, text: bytes) -> Point | None:
        words = text.split(b";")[0].split(b",")
        kind, address, length = (int(word, 16) for word in words)
        if kind not in BREAKS and kind not in WATCHES:
            return None
        return Point(self._target.record.pid(self._tid), kind, address, length)

    # Going on.

    def last_stop(self, text: bytes) -> bytes:
        return self._stopped(self._target.stop)

    def resume_actions(self, text: bytes) -> bytes:
        return b"vCont;c;C;s;S;r"

    def resume(self, text: bytes) -> bytes:
        """The first action that steps decides; all threads go on in any case."""
        actions = [action.partition(b":") for action in text.split(b";") if action]
        if not actions:
            return b"E16"
        for action, _, thread in actions:
            if action[:1] in b"sSr":
                tid = _tid(thread) if thread else self._tid
                tid = tid if tid > 0 else self._tid
                if action[:1] == b"r":
                    first, end = (int(word, 16) for word in action[1:].split(b","))
                    return self._stopped(self._target.step_in(tid, first, end))
                return self._stopped(self._target.forward(tid))
        return self._stopped(self._target.forward())

    def go_on(self, text: bytes) -> bytes:
        return self._stopped(self._target.forward())

    def step(self, text: bytes) -> bytes:
        return self._stopped(self._target.forward(self._stepper()))

    def go_back(self, text: bytes) -> bytes:
        return self._stopped(self._target.backward())

    def step_back(self, text: bytes) -> bytes:
        return self._stopped(self._target.backward(self._stepper()))

    def _stepper(self) -> int:
        return self._resumed if self._resumed > 0 else self._tid

    def _stopped(self, stop: Stop) -> bytes:
        """A stop reply. Registers are asked for separately."""
        if stop.exited is not None:
            signo, code = stop.exited & 0x7F, stop.exited >> 8 & 0xFF
            head = b"X%02x" % signals.to_gdb(signo) if signo else b"W%02x" % code
            return head + b";process:%x" % stop.pid
        self._tid = stop.tid
        head = b"T%02x" % signals.to_gdb(stop.signal)
        return head + stop.reason + b"thread:" + self._id(stop.tid) + b";"

    # The rest.

    def monitor(self, text: bytes) -> bytes:
        command = bytes.fromhex(text.decode()).decode("utf-8", "replace")
        return monitor.answer(self._target, self._tid, command).encode().hex().encode() or b"OK"

    def read_object(self, text: bytes) -> bytes:
        return objects.answer(self._target, self._tid, text)

    def use_file(self, text: bytes) -> bytes:
        return self._files.answer(text)


def _tid(text: bytes) -> int:
    """Of a thread-id: pPID.TID, pPID.-1, TID, 0 or -1."""
    if not text.startswith(b"p"):
        return int(text, 16)
    pid, dot, tid = text[1:].partition(b".")
    return int(tid, 16) if dot else int(pid, 16)


# By the beginning of the packet; the first that fits.
_REQUESTS: Final[dict[bytes, Callable[[Session, bytes], bytes]]] = {
    b"qSupported": Session.tell_features,
    b"QStartNoAckMode": Session.agree,
    b"QPassSignals:": Session.pass_signals,
    b"QProgramSignals:": Session.agree,
    b"QCatchSyscalls:": Session.catch_calls,
    b"QNonStop:": Session.set_non_stop,
    b"qXfer:": Session.read_object,
    b"qRcmd,": Session.monitor,
    b"qAttached": Session.is_attached,
    b"qSymbol:": Session.agree,
    b"qfThreadInfo": Session.all_threads,
    b"qsThreadInfo": Session.no_more_threads,
    b"qC": Session.current_thread,
    b"vCont?": Session.resume_actions,
    b"vCont;": Session.resume,
    b"vFile:": Session.use_file,
    b"vKill": Session.detach,
    b"?": Session.last_stop,
    b"H": Session.choose_thread,
    b"T": Session.is_alive,
    b"g": Session.read_registers,
    b"p": Session.read_register,
    b"m": Session.read_memory,
    b"G": Session.refuse,
    b"P": Session.refuse,
    b"M": Session.refuse,
    b"X": Session.refuse,
    b"Z": Session.set_point,
    b"z": Session.remove_point,
    b"c": Session.go_on,
    b"C": Session.go_on,
    b"s": Session.step,
    b"S": Session.step,
    b"bc": Session.go_back,
    b"bs": Session.step_back,
    b"D": Session.detach,
    b"k": Session.detach,
}
