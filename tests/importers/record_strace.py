"""Records logs/calls-* and logs/pthread again: what Debian's riscv64 strace writes of calls.c and
of the demo's program under our executor.

    python tests/importers/record_strace.py

It needs ziglang and Debian's riscv64 packages, which are fetched once (riscv_root.py).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE = Path(__file__).parent

# name -> strace's options; without -o it writes to standard error.
VARIANTS: Final = {
    "plain": ("-f", "-o", "/w/out"),
    "raw": ("-f", "-X", "raw", "-i", "-n", "-T", "-o", "/w/out"),
    "verbose": ("-f", "-X", "verbose", "-v", "-yy", "-Y", "-tt"),
    "stderr": ("-f", "-r", "-q"),
    "files": ("-ff", "-ttt", "-o", "/w/out"),
}


def record(work: Path) -> None:
    fetch = (sys.executable, HERE.parent / "differential/riscv_root.py")
    root = subprocess.run(fetch, capture_output=True, text=True, check=True).stdout.strip()
    built = work / "calls"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-static")
    options = ("-O1", "-s", "-Wl,--build-id=none", "-o", built)
    subprocess.run([*zig, *options, HERE / "calls.c"], check=True)
    for name, words in VARIANTS.items():
        trace(root, work / name, built, words, f"calls-{name}")
    demo = HERE.parents[1] / "shstk/guests/pthread.elf"
    trace(root, work / "pthread", demo, VARIANTS["plain"], "pthread")


def trace(root: str, shared: Path, program: Path, options: tuple[str, ...], name: str) -> None:
    shared.mkdir()
    guest = shared / program.name
    guest.write_bytes(program.read_bytes())
    guest.chmod(0o755)
    words = ("exec", "--root", root, "--bind", f"{shared}:/w:rw", "/usr/bin/strace")
    told = subprocess.run(
        [Path(sys.executable).with_name("shstk"), *words, *options, f"/w/{guest.name}"],
        stderr=subprocess.PIPE,
        check=False,
    )
    texts = sorted(shared.glob("out*"))
    assert b"exited with" in (texts[0].read_bytes() if texts else told.stderr), told.stderr
    for text in texts:
        suffix = text.suffix if len(texts) > 1 else ""
        (HERE / f"logs/{name}{suffix}").write_bytes(text.read_bytes())
    if not texts:
        (HERE / f"logs/{name}").write_bytes(told.stderr)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        record(Path(work))
