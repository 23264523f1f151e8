"""Waits for gdb, on a TCP port of this machine or on standard input and output.

One gdb at a time: another one is told so. gdb may go away and come back; the server ends when gdb
detaches or kills its target.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shstk.gdb.packets import Connection, Gone
from shstk.gdb.session import Session
from shstk.gdb.target import Target
from shstk.schemas.errors import UsageError

if TYPE_CHECKING:
    from shstk.replay.run import Run

COMMANDS: Final = Path(__file__).with_name("commands.gdb")
_BUSY: Final = b"E.another gdb is connected"


def serve_stdio(run: Run, tier: str, cache: Path | None = None) -> None:
    """`target remote | shstk gdb --stdio RUN`. gdb's Ctrl-C comes as a byte, not as a signal: this
    leaves the terminal's foreground group. To ignore SIGINT is not enough, see corpus/worker.py."""
    with contextlib.suppress(PermissionError):  # it leads a session
        os.setpgid(0, 0)
    connection = Connection(0, 1)
    target = Target(run, connection.interrupted, tier, cache)
    with contextlib.suppress(Gone):
        Session(connection, target).serve()


def serve_port(
    run: Run,
    port: int,
    tier: str,
    say: Callable[[str], None],
    cache: Path | None = None,
) -> None:
    """port: 0 chooses a free one. say: gets what the user should know. Raises UsageError."""
    with _listening(port) as listener:
        server = _Server(listener, say)
        target = Target(run, server.interrupted, tier, cache)
        listener.listen()  # only now: gdb gives up after two seconds without an answer
        port = listener.getsockname()[1]
        say(f"waiting: gdb-multiarch -x {COMMANDS} -ex 'target remote :{port}'")
        while not server.serve(target):
            say("gdb has gone away; waiting for another one")


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"--port {port}: {error.strerror or error}", "--port 0 chooses a free one"
            ) from None
        yield listener


class _Server:
    def __init__(self, listener: socket.socket, say: Callable[[str], None]) -> None:
        self._listener = listener
        self._say = say
        self._connection: Connection | None = None

    def serve(self, target: Target) -> bool:
        """Serve the next gdb. False: it went away without a word."""
        # accept(2) alone would not end by Ctrl-C: the handler that Polars puts before Python's has
        # SA_RESTART. No signal restarts select(2).
        select.select([self._listener], [], [])
        client, _ = self._listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = client.fileno()
            self._connection = Connection(fd, fd, self._refuse_others)
            try:
                Session(self._connection, target).serve()
            except Gone:
                return False
            finally:
                self._connection = None
        return True

    def interrupted(self) -> bool:
        self._refuse_others(0)
        return self._connection is not None and self._connection.interrupted()

    def _refuse_others(self, fd: int | None) -> None:
        """Wait until `fd` can be read (0: do not wait), and turn away whoever else connects."""
        while True:
            own = self._listener.fileno()
            wanted = [own, *([fd] if fd else [])]
            ready = select.select(wanted, [], [], None if fd else 0)[0]
            if own in ready:
                other, _ = self._listener.accept()
                with other, contextlib.suppress(OSError):
                    other.settimeout(1)
                    other.recv(1 << 12)
                    Connection(other.fileno(), other.fileno()).send(_BUSY)
                self._say("refused a second gdb")
            if not fd or fd in ready:
                return
