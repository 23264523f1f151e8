"""System calls with bad arguments: python tests/hostile/bad_calls.py [--seed N] [--batches N]

Every modelled call is made with pointers that are unmapped, read-only, misaligned or at the end of
the address space, with absurd sizes, descriptors of every kind, and flags all ones. The recorder
must end each batch in order, and the host's files must stay as they were.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from telling import tell

from shstk.schemas.errors import ShstkError
from shstk.tracer.kernel.table import CALLS
from shstk.tracer.record import RecordOptions, record

SOURCE = Path(__file__).with_name("bad_calls.c")
BATCH = 64  # calls_at_once of bad_calls.c
ENDINGS = {"exited", "killed", "deadlock"}

_PLACE = 0x5EED0000 << 32
_SIZES = (
    0,
    1,
    7,
    8,
    4095,
    4096,
    4097,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**47,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_ADDRESSES = (
    0,
    1,
    8,
    2**38 - 8,
    2**38,
    2**39 - 8,
    2**47 - 8,
    2**47,
    2**56,
    2**63,
    2**64 - 4096,
    2**64 - 8,
    2**64 - 1,
)
_BY_NAME = {call.name: number for number, call in CALLS.items()}


def build(directory: Path) -> Path:
    program = directory / "bad_calls"
    compiler = [sys.executable, "-P", "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
    subprocess.run([*compiler, "-static", "-O1", SOURCE, "-o", program], check=True)
    return program


def argument(rng: random.Random) -> int:
    match rng.randrange(10):
        case 0 | 1 | 2:
            return _PLACE | rng.randrange(16)
        case 3:
            return rng.choice(_SIZES)
        case 4:
            return rng.choice(_ADDRESSES)
        case 5 | 6:
            return rng.randrange(-1, 14) % 2**64  # descriptors, small numbers, signals
        case 7:
            return 1 << rng.randrange(64)
        case 8:
            return rng.randrange(64) * 8
        case _:
            return rng.getrandbits(rng.choice((8, 16, 32, 64)))


def calls(rng: random.Random, number: int | None = None) -> bytes:
    """A batch, of one call or of any."""
    numbers = [number if number is not None else rng.choice(list(CALLS)) for _ in range(BATCH)]
    return b"".join(struct.pack("<8Q", n, *(argument(rng) for _ in range(6)), 0) for n in numbers)


def snapshot(directory: Path) -> dict[str, tuple[int, int, str]]:
    """Of each file: its mode, its links, and what it holds."""
    found = {}
    for folder, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(folder, name)
            status = path.lstat()
            held = os.readlink(path) if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink():
                held = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (status.st_mode, status.st_nlink, held)
    return found


class Host:
    """A program, a tree for its guest, and files beside it that must not change."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = build(directory)
        self.host = directory / "host"
        self.work = self.host / "work"
        self.make_work()
        (self.host / "canary").write_text("the host's own\n")
        self.before = self.outside()

    def make_work(self) -> None:
        """What the guest may change."""
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "directory").mkdir(parents=True)
        (self.work / "file").write_bytes(bytes(range(256)) * 40)
        (self.work / "link").symlink_to("../../canary")

    def outside(self) -> dict[str, tuple[int, int, str]]:
        """What it may not."""
        found = snapshot(self.host)
        return {name: of for name, of in found.items() if not name.startswith(str(self.work))}

    def wrong(self, batch: bytes) -> str:
        """What was wrong with the recording of a batch, or nothing."""
        self.make_work()
        begun = time.monotonic()
        try:
            result = record(
                RecordOptions(
                    str(self.program),
                    out=self.directory / "out.run",
                    force=True,
                    trace=frozenset(),
                    stdin=batch,
                    binds=((self.work, "/work", True),),
                    max_instructions=20_000_000,
                    memory=256 << 20,
                    timeout=60,
                )
            )
        except ShstkError as e:
            return f"{type(e).__name__}: {e}"
        except Exception:
            return traceback.format_exc(limit=-6)
        took = time.monotonic() - begun
        if self.outside() != self.before:
            return "the host's files have changed"
        if result.ending not in ENDINGS and result.ending != "limit":
            return f"ending {result.ending} after {took:.0f} s"
        return ""


def spelled(batch: bytes) -> list[str]:
    names = {number: name for name, number in _BY_NAME.items()}
    return [
        f"{names[n]}({', '.join(hex(a) for a in arguments)})"
        for n, *arguments, _ in struct.iter_unpack("<8Q", batch)
    ]


def smallest(host: Host, batch: bytes) -> bytes:
    """One call of the batch that is wrong by itself, or the whole batch."""
    each = [batch[at : at + 64] for at in range(0, len(batch), 64)]
    return next((call for call in each if host.wrong(call)), batch)


def campaign(host: Host, seed: int, batches: Iterator[int]) -> Iterator[str]:
    """What failed, in words that let it be repeated."""
    numbers = sorted(CALLS)
    for at in batches:
        rng = random.Random(f"{seed} {at}")
        batch = calls(rng, numbers[at // 2 % len(numbers)] if at % 2 else None)
        if host.wrong(batch):
            found = smallest(host, batch)
            first, *more = spelled(found)
            yield f"--seed {seed} --first {at}: {first}{' …' if more else ''}\n{host.wrong(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--batches", type=int, default=2 * len(CALLS))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    with tempfile.TemporaryDirectory() as directory:
        host = Host(Path(directory))
        batches = iter(range(options.first, options.first + options.batches))
        tell(campaign(host, options.seed, batches), f"{options.batches * BATCH} calls")


if __name__ == "__main__":
    main()
