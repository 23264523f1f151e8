"""What the tests of shstk/gdb share: recorded guests, a client of the protocol, and real gdb."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import shstk
from shstk.gdb.packets import Connection, Gone
from shstk.gdb.registers import REGISTERS
from shstk.gdb.session import Session
from shstk.gdb.target import Target
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

GUESTS = Path(shstk.__file__).parent / "guests"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
GDB = shutil.which("gdb-multiarch")
MULTIPROCESS = "multiprocess+;swbreak+;fork-events+;vfork-events+;exec-events+"


def recorded(folder: Path, program: str, *argv: str, kernel: str = "7.2") -> Path:
    """The run of a fixture or of the demo's program."""
    path = FIXTURES / f"{program}.elf"
    out = folder / f"{program}-{kernel}.run"
    found = path if path.exists() else GUESTS / f"{program}.elf"
    record(RecordOptions(str(found), argv, kernel=kernel, out=out))
    return out


class Client:
    """A debugger that is connected to a run. Packets are text."""

    def __init__(self, run: Path | Run, features: str = MULTIPROCESS) -> None:
        self.socket, other = socket.socketpair()
        self.socket.settimeout(60)
        self._other = other
        self._thread = threading.Thread(
            target=self._serve, args=(run if isinstance(run, Run) else Run.open(run),)
        )
        self._thread.start()
        self.ask("QStartNoAckMode")
        self.ask(f"qSupported:{features}")

    def _serve(self, run: Run) -> None:
        fd = self._other.fileno()
        connection = Connection(fd, fd)
        assert run.path is not None
        cache = run.path.parent / "cache"
        target = Target(run, connection.interrupted, "interpreter", cache)
        try:
            Session(connection, target).serve()
        except Gone:
            pass
        finally:
            self._other.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self._thread.join()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, packet: str) -> str:
        self.send(b"$%s#%02x" % (packet.encode(), sum(packet.encode()) % 256))
        return self.answer()

    def answer(self) -> str:
        """The data of the next packet."""
        data = b""
        while not (len(data) > 3 and data[-3:-2] == b"#"):
            byte = self.socket.recv(1)
            assert byte, "the server has closed the connection"
            data += byte
        return data[data.index(b"$") + 1 : -3].decode("latin-1")

    # What a debugger asks often.

    def monitor(self, command: str) -> str:
        answer = self.ask(f"qRcmd,{command.encode().hex()}")
        return "" if answer == "OK" else bytes.fromhex(answer).decode()

    def place(self) -> int:
        """The instruction that is next."""
        return int(self.monitor("where").split()[1].split(".")[0])

    def threads(self) -> list[str]:
        return self.ask("qfThreadInfo")[1:].split(",")

    def register(self, name: str, thread: str | None = None) -> int:
        if thread is not None:
            assert self.ask(f"Hg{thread}") == "OK"
        number = next(i for i, register in enumerate(REGISTERS) if register.name == name)
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def word(self, address: int) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"m{address:x},8")), "little")


def debug(run: Path, *commands: str) -> str:
    """What gdb prints: the output of `shstk debug RUN -batch`."""
    words = [word for command in commands for word in ("-ex", command)]
    shstk = [sys.executable, "-P", "-m", "shstk", "debug", str(run), "-batch", *words]
    environment = os.environ | {"XDG_CACHE_HOME": str(run.parent / "cache"), "HOME": "/nonexistent"}
    done = subprocess.run(
        shstk, capture_output=True, text=True, timeout=120, env=environment, cwd=run.parent
    )
    return done.stdout + done.stderr
