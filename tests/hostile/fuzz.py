"""Files that nobody meant: python tests/hostile/fuzz.py [--seconds N] [--seed N] [TARGET...]

Each target gives a command a file that was mutated out of good ones. The command must answer with
exit code 0 to 4, without a traceback, in time. With atheris installed (pip install atheris), what
reaches new code is kept and mutated further; otherwise mutations are made at random.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
SEED_BYTES = 1 << 18


@dataclass(frozen=True)
class Target:
    """seeds(directory) yields good files; words(file, directory) is the command for one."""

    seeds: Callable[[Path], list[bytes]]
    words: Callable[[Path, Path], list[str]]
    tokens: tuple[bytes, ...] = ()


def _files(*patterns: str) -> Callable[[Path], list[bytes]]:
    return lambda directory: [
        file.read_bytes()[:SEED_BYTES]
        for pattern in patterns
        for file in sorted(TESTS.parent.glob(pattern))
        if file.is_file()
    ]


def _importing(kind: str) -> Callable[[Path, Path], list[str]]:
    return lambda file, directory: [
        *("import", kind, "-o", str(directory / "out.run"), "--force", str(file))
    ]


def _cores(directory: Path) -> list[bytes]:
    sys.path.insert(0, str(TESTS / "importers"))
    import corefile

    return [corefile.small().pack()]


def _events(directory: Path) -> list[bytes]:
    files = sorted((TESTS / "realkernel/events").glob("sc*.zst"))[:6]
    import pyarrow as pa

    found = []
    for file in files:
        with pa.input_stream(str(file), compression="zstd") as stream:
            found.append(stream.read(SEED_BYTES))
    return found


def _spike(directory: Path) -> list[bytes]:
    import pyarrow as pa

    with pa.input_stream(str(TESTS / "importers/logs/longjmp.zst"), compression="zstd") as stream:
        return [stream.read(SEED_BYTES)]


_SQL = (
    "SELECT * FROM cfi",
    "SELECT tid, count(*) AS n FROM cfi WHERE seq > 10.1 GROUP BY tid ORDER BY n DESC LIMIT 3",
    "SELECT s.name, m.addr FROM syscalls s JOIN mappings m ON s.seq = m.seq WHERE m.addr = 0x10",
    "WITH a AS (SELECT * FROM frames) SELECT * FROM a UNION SELECT * FROM a",
)

TARGETS = {
    "elf": Target(
        _files("fixtures/bin/a1.elf", "fixtures/bin/pthread-pie.elf"),
        lambda file, directory: [
            *("record", "-o", str(directory / "out.run"), "--force"),
            *("--max-instructions", "20000", "--memory", "64M", str(file)),
        ],
    ),
    "listing": Target(
        _files("tests/rules/*.md"),
        lambda file, directory: ["build", str(file), "-o", str(directory / "out.run"), "--force"],
    ),
    "sql": Target(
        lambda directory: [text.encode() for text in _SQL],
        lambda file, directory: [
            *("query", str(directory / "good.run")),
            file.read_bytes().decode(errors="replace").replace("\0", " ").lstrip("-") or " ",
        ],
    ),
    "core": Target(_cores, _importing("core")),
    "spike": Target(_spike, _importing("spike")),
    "strace": Target(_files("tests/importers/logs/calls-*"), _importing("strace")),
    "ftrace": Target(_files("tests/realkernel/traces/*"), _importing("ftrace")),
    "qemu": Target(_events, _importing("qemu")),
}


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A few random changes: bits, numbers, pieces gone, doubled or of another file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 4096))
        match rng.randrange(7):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + length] = rng.randbytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length] * rng.choice((1, 3, 100))
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                changed[at:at] = other[start : start + length]
            case 5:
                edge = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64 - 8))
                changed[at : at + 8] = edge.to_bytes(8, "little")
            case _:
                number = rng.choice((b"0", b"-1", b"4294967296", b"18446744073709551616", b"1e400"))
                changed[at : at + rng.randrange(4)] = number
    return bytes(changed)


def failure(target: Target, data: bytes, directory: Path) -> str:
    """What was wrong with the command's answer, or nothing."""
    import forged

    file = directory / "input"
    file.write_bytes(data)
    wrong = forged.answer(target.words(file, directory))
    for left in directory.glob("out.run*"):
        shutil.rmtree(left)
    return wrong


def prepared(directory: Path) -> Path:
    import shstk

    shstk.record(TESTS.parent / "fixtures/bin/signals.elf", out=directory / "good.run")
    return directory


def at_random(name: str, directory: Path, rng: random.Random, cases: range, until: float) -> int:
    """Prints what failed; returns the number of failures."""
    target = TARGETS[name]
    seeds = target.seeds(directory)
    assert seeds, f"{name} has no good files"
    done = failures = 0
    for case in cases:
        if time.monotonic() > until:
            break
        data = mutated(rng.choice(seeds), seeds, rng)
        wrong = failure(target, data, directory)
        done += 1
        if wrong:
            failures += 1
            kept = Path(tempfile.gettempdir()) / f"{name}-{zlib.crc32(data):08x}"
            kept.write_bytes(data)
            print(f"{name} {case}: {wrong}\n  the file: {kept}", flush=True)
    print(f"{name}: {done} files, {failures} failures", flush=True)
    return failures


def guided(name: str, directory: Path, seconds: int) -> int:
    """With atheris, which ends its process: in one of its own."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, data in enumerate(TARGETS[name].seeds(directory)):
        (corpus / str(number)).write_bytes(data)
    words = [sys.executable, "-P", __file__, "--guided", name, str(directory), str(seconds)]
    return subprocess.run(words, check=False).returncode


def _guided_here(name: str, directory: Path, seconds: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["shstk"], enable_loader_override=False):
        import shstk.__main__  # noqa: F401

    target = TARGETS[name]

    def one(data: bytes) -> None:
        wrong = failure(target, data, directory)
        if wrong:
            raise AssertionError(wrong)

    limits = [f"-max_total_time={seconds}", f"-max_len={SEED_BYTES}", "-timeout=60"]
    kept = f"-artifact_prefix={tempfile.gettempdir()}/{name}-"
    atheris.Setup(
        [sys.argv[0], *limits, kept, "-print_final_stats=1", str(directory / "corpus")], one
    )
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(TARGETS))
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if options.guided:
        name, directory, seconds = options.guided
        _guided_here(name, Path(directory), seconds)
        return
    failures = 0
    for name in options.targets or TARGETS:
        with tempfile.TemporaryDirectory() as scratch:
            directory = prepared(Path(scratch))
            if importlib.util.find_spec("atheris"):
                failures += bool(guided(name, directory, options.seconds))
            else:
                rng = random.Random(f"{options.seed} {name}")
                until = time.monotonic() + options.seconds
                failures += at_random(name, directory, rng, range(10**9), until)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
