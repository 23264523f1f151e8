"""Record the core dumps in tests/realkernel/cores again; it takes some minutes. All that it needs
comes from Debian (machine.py) and PyPI's ziglang: ``python tests/realkernel/record_cores.py``.

Cores of `fixtures/bin/faulty.elf CASE`, and of cores/threads.c, under the stock kernel.
"""

from __future__ import annotations

import base64
import gzip
import lzma
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine, tools

from shstk.tracer.realkernel import image
from shstk.tracer.realkernel.initramfs import INIT, Job, build

ROOT = Path(__file__).parents[2]
CORES = Path(__file__).with_name("cores")
BUSYBOX = "/usr/bin/busybox"
CASES = (
    *("smashed", "longjmp", "overflow", "left-handler", "handler", "token", "unmapped", "store"),
    *("full-signal", "read-only"),
)
CFI = (
    "-mcpu=generic_rv64+m+a+f+d+c+zicsr+zifencei+zimop+zcmop+zaamo"
    "+experimental_zicfiss+experimental_zicfilp",
    *("-fcf-protection=full", "-mcf-branch-label-scheme=unlabeled"),
)


def script() -> str:
    lines = [
        f"exec > /dev/console 2>&1; {BUSYBOX} mkdir -p /bin /tmp; {BUSYBOX} --install -s /bin",
        "mount -t tmpfs t /tmp; cd /tmp; echo /tmp/core > /proc/sys/kernel/core_pattern",
        "ulimit -c unlimited",
    ]
    commands = {f"faulty-{case}": f"/faulty {case}" for case in CASES} | {"threads": "/threads"}
    for name, command in commands.items():
        lines.append(f"rm -f core; {command}; echo '=== {name}'; gzip -c core | base64")
        lines.append("echo '=== end'")
    return "\n".join(lines)


def threads(folder: Path) -> bytes:
    words = ["-target", "riscv64-linux-musl", "-static", "-O1", "-fno-sanitize=undefined", *CFI]
    words += ["-Wl,-e,_shstk_start", str(CORES / "threads.c"), str(ROOT / "shstk/guests/start.S")]
    made = folder / "threads"
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *words, "-o", made], check=True)
    return made.read_bytes()


def main() -> None:
    parts = machine()
    with tempfile.TemporaryDirectory() as work:
        faulty = (ROOT / "fixtures/bin/faulty.elf").read_bytes()
        files = [("/faulty", faulty), ("/threads", threads(Path(work)))]
        job = Job(BUSYBOX, ("sh", "-c", script()), ("PATH=/bin:/usr/bin",), uid=0)
        initrd, kernel = Path(work, "initrd"), Path(work, "Image")
        initrd.write_bytes(build(job, files, root=tools()))
        kernel.write_bytes(image.read(parts.kernel))
        words = ["-M", "virt", "-cpu", "max", "-nographic", "-no-reboot", "-m", "1G"]
        words += ["-bios", parts.firmware, "-kernel", kernel, "-initrd", initrd]
        words += ["-append", f"console=ttyS0 quiet loglevel=1 panic=-1 rdinit={INIT}"]
        console = subprocess.run(
            [parts.qemu, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
        ).stdout.decode("utf-8", "replace")
    for name, text in re.findall(r"=== (\S+)\s(.*?)=== end", console, re.DOTALL):
        data = gzip.decompress(base64.b64decode(text))
        file = CORES / f"{name}.xz"
        file.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
        print(f"{name}: {len(data)} bytes, {file.stat().st_size} packed")


if __name__ == "__main__":
    main()
