"""Files that nobody meant: python tests/hostile/fuzz.py [--seconds N] [--seed N] [TARGET...]

Each target gives a command a file that was mutated out of good ones. The command must answer with
exit code 0 to 4, without a traceback, in time. With atheris installed (pip install atheris), what
reaches new code is kept and mutated further; otherwise mutations are made at random.

`run` damages one file of a run, under a manifest that fits; `rows` lets the bytes choose what
forged.py changes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import pkgutil
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import forged

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


class Chosen(random.Random):
    """What is random comes from bytes; after the last, it is zeros."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._left = data

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        taken, self._left = self._left[:size], self._left[size:]
        return int.from_bytes(taken.ljust(size, b"\0"), "little") >> (size * 8 - k)

    def random(self) -> float:
        return self.getrandbits(53) / 2**53


def _parts(directory: Path) -> list[bytes]:
    """Each file of a good run, behind its number and that of a command."""
    files = _files_of(directory / "good.run")
    return [
        bytes([at, at]) + file.read_bytes()
        for at, file in enumerate(files)
        if file.stat().st_size < SEED_BYTES
    ]


def _files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file())


def _one_damaged(file: Path, directory: Path) -> list[str]:
    run = directory / "out.run"
    shutil.copytree(directory / "good.run", run)
    number, command = file.read_bytes()[:2].ljust(2, b"\0")
    files = _files_of(run)
    name = str(files[number % len(files)].relative_to(run))
    forged.replace(run, name, file.read_bytes()[2:])
    return _command(command, run, directory)


def _rows_changed(file: Path, directory: Path) -> list[str]:
    data, run = file.read_bytes(), directory / "out.run"
    forged.forge(directory / "good.run", run, Chosen(data[1:]))
    return _command(data[0] if data else 0, run, directory)


def _command(number: int, run: Path, directory: Path) -> list[str]:
    name, *words = forged.COMMANDS[number % len(forged.COMMANDS)]
    put = {"original": directory / "good.run", "out": directory / "out"}
    return [name, str(run), *(word.format(**put) for word in words)]


_SQL_TOKENS = (
    *b"SELECT FROM WHERE GROUP BY ORDER LIMIT JOIN UNION WITH OVER CASE CAST( AS NULL LIKE".split(),
    *b"EXCEPT HAVING DISTINCT EXISTS UNNEST( read_csv( read_parquet( DROP CREATE".split(),
    *b"syscalls mappings tasks frames stays cfi seq tid name hex( 0x 1.1 '/etc/passwd'".split(),
)
_TRACE_TOKENS = (
    *b"prctl(PR_SET_SHADOW_STACK_STATUS, map_shadow_stack( clone3({flags= CLONE_VM|".split(),
    *b"execve( <unfinished ...> resumed> --- SIGSEGV +++ exited = -1 ENOMEM".split(),
    *b"0xffffffffffffffff [pid".split(),
)
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
    "run": Target(_parts, _one_damaged),
    "rows": Target(
        lambda directory: [random.Random(at).randbytes(64) for at in range(40)], _rows_changed
    ),
    "sql": Target(
        lambda directory: [text.encode() for text in _SQL],
        lambda file, directory: [
            *("query", str(directory / "good.run")),
            file.read_bytes().decode(errors="replace").replace("\0", " ").lstrip("-") or " ",
        ],
        _SQL_TOKENS,
    ),
    "core": Target(_cores, _importing("core")),
    "spike": Target(_spike, _importing("spike")),
    "strace": Target(_files("tests/importers/logs/calls-*"), _importing("strace"), _TRACE_TOKENS),
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
    file = directory / "input"
    file.write_bytes(data)
    wrong = forged.answer(target.words(file, directory))
    for left in directory.glob("out*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return wrong


def prepared(directory: Path) -> Path:
    import shstk

    shstk.record(TESTS.parent / "fixtures/bin/signals.elf", out=directory / "good.run")
    return directory


def kept(name: str, data: bytes, wrong: str) -> str:
    """What to print of a failure. The file stays."""
    file = Path(tempfile.gettempdir()) / f"{name}-{zlib.crc32(data):08x}"
    file.write_bytes(data)
    return f"{name}: {wrong}\n  the file: {file}"


def at_random(name: str, directory: Path, rng: random.Random, cases: range, until: float) -> int:
    """Prints what failed; returns the number of failures."""
    target = TARGETS[name]
    seeds = target.seeds(directory)
    assert seeds, f"{name} has no good files"
    done = failures = 0
    for _ in cases:
        if time.monotonic() > until:
            break
        data = mutated(rng.choice(seeds), seeds, rng)
        wrong = failure(target, data, directory)
        done += 1
        if wrong:
            failures += 1
            print(kept(name, data, wrong), flush=True)
    print(f"{name}: {done} files, {failures} failures", flush=True)
    return failures


def guided(name: str, directory: Path, seconds: int) -> int:
    """With atheris, which ends its process: in one of its own. Returns the number of failures."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, data in enumerate(TARGETS[name].seeds(directory)):
        (corpus / str(number)).write_bytes(data)
    words = [sys.executable, __file__, "--guided", name, str(directory), str(seconds)]
    code = subprocess.run(words, check=False).returncode
    found = directory / "failures"
    failures = len(found.read_text().splitlines()) if found.exists() else 0
    print(f"{name}: {failures} failures, atheris ended with {code}", flush=True)
    return failures + bool(code)


def _guided_here(name: str, directory: Path, seconds: str) -> None:
    import atheris

    import shstk

    # Commands import what they need when they run, which would be too late.
    with atheris.instrument_imports(include=["shstk"], enable_loader_override=False):
        for module in pkgutil.walk_packages(shstk.__path__, "shstk."):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)

    target = TARGETS[name]
    seen = set()

    def one(data: bytes) -> None:
        wrong = failure(target, data, directory)
        kind = re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", wrong)[-200:]
        if wrong and kind not in seen:
            seen.add(kind)
            print(kept(name, data, wrong), flush=True)
            with (directory / "failures").open("a") as found:
                found.write(f"{kind!r}\n")

    # forged.answer has its own alarm.
    limits = [f"-max_total_time={seconds}", f"-max_len={SEED_BYTES}", "-timeout=0"]
    if target.tokens:
        words = "".join(f'"{token.decode()}"\n' for token in target.tokens)
        (directory / "dictionary").write_text(words)
        limits.append(f"-dict={directory / 'dictionary'}")
    artifacts = f"-artifact_prefix={tempfile.gettempdir()}/{name}-"
    corpus = str(directory / "corpus")
    atheris.Setup([sys.argv[0], *limits, artifacts, "-print_final_stats=1", corpus], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(TARGETS))
    options = parser.parse_args()
    if options.guided:
        name, directory, seconds = options.guided
        _guided_here(name, Path(directory), seconds)
        return
    failures = 0
    for name in options.targets or TARGETS:
        with tempfile.TemporaryDirectory() as scratch:
            directory = prepared(Path(scratch))
            if importlib.util.find_spec("atheris"):
                failures += guided(name, directory, options.seconds)
            else:
                rng = random.Random(f"{options.seed} {name}")
                until = time.monotonic() + options.seconds
                failures += at_random(name, directory, rng, range(10**9), until)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
