"""Not recorded, from start to end: native code and the interpreter, qemu-user, libriscv, Spike.

The guests run with Zicfiss enforced; qemu-user 10 executes its instructions as no-ops, and older
ones stop at them. With --root, an unpacked Debian riscv64, its programs run too.
"""

import statistics
import subprocess
from pathlib import Path

from benchmarks.guests import build
from benchmarks.harness import Bench, Results, peer, shstk

LONG = ("fib", "sort", "sha256", "nbody")
COUNTING = "s=0\nfor i in range(200000): s+=i*i%7\nprint(s)"
QUERY = (
    "with recursive n(i) as (select 1 union all select i+1 from n where i<100000)"
    " select sum(i*i%7) from n;"
)
DEBIAN = {
    "python3": ("/usr/bin/python3", "-S", "-c", COUNTING),
    "sqlite3": ("/usr/bin/sqlite3", ":memory:", QUERY),
    "bash": ("/usr/bin/bash", "-c", "for ((i=0; i<30000; i++)); do ((s+=i*i%7)); done; echo $s"),
}


def ways(
    argv: tuple[str, ...], plain: str, root: Path | None, results: Results
) -> dict[str, list[str]]:
    """The commands that run a guest. plain: the program for those that know no shadow stack."""
    at = ("--root", str(root)) if root else ()
    found = {tier: shstk("exec", *at, "--tier", tier, *argv) for tier in ("auto", "interpreter")}
    if qemu := peer("QEMU_RISCV64", "qemu-riscv64"):
        found["qemu-user"] = [qemu, *(["-L", str(root)] if root else []), plain, *argv[1:]]
    else:
        results.absent["qemu-user"] = "no qemu-riscv64 on PATH, nor QEMU_RISCV64"
    if rvlinux := peer("RVLINUX", "rvlinux"):
        if not root:
            found["libriscv"] = [rvlinux, plain, *argv[1:]]
    else:
        results.absent["libriscv"] = "no rvlinux on PATH, nor RVLINUX"
    spike, kernel = peer("SPIKE", "spike"), peer("PK", "pk")
    if spike and kernel:
        if not root:
            found["spike"] = [spike, "--isa=rv64gc_zba_zbb_zbs_zicfiss_zimop_zcmop", kernel, plain]
    else:
        results.absent["spike"] = "no spike and pk on PATH, nor SPIKE and PK"
    return found


def _that_work(found: dict[str, list[str]], results: Results) -> dict[str, list[str]]:
    """Without the peers that a guest kills: a qemu-user before 10 stops at Zicfiss."""
    for way in [way for way in found if way not in ("auto", "interpreter")]:
        ended = subprocess.run(found[way], capture_output=True, check=False)
        if ended.returncode < 0:
            results.absent[way] = f"{found[way][0]} ends with signal {-ended.returncode}"
            del found[way]
    return found


def measure(bench: Bench) -> Results:
    results = Results()
    rounds = bench.size(20, 1)
    guests = [
        (
            name,
            (str(build(name, bench.work, "start_linux.S", rounds)),),
            str(build(name, bench.work, "start.S", rounds)),
            None,
        )
        for name in LONG
    ]
    if bench.root:
        guests += [(n, argv, f"{bench.root}{argv[0]}", bench.root) for n, argv in DEBIAN.items()]
    ratios = []
    for name, argv, plain, root in guests:
        costs = bench.commands(_that_work(ways(argv, plain, root, results), results))
        for way, cost in costs.items():
            results.add(name, way, cost.cpu)
        if "qemu-user" in costs:
            ratios.append(costs["qemu-user"].cpu / costs["auto"].cpu)
            results.add(name, "qemu-user / auto", ratios[-1], "×")
    if ratios:
        mean = statistics.geometric_mean(ratios)
        results.add("geometric mean", "qemu-user / auto", mean, "×", least=1.2)
    return results
