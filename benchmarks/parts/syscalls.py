"""A system call, kind by kind: CPU time of each, executed and recorded, start and end taken off."""

from benchmarks.harness import Bench, Results, record, shstk

# Kind of guests/linux/syscalls.c -> calls that it makes a round.
KINDS = {
    "getpid": 1, "getppid": 1, "write": 1, "writeout": 1, "writev": 1, "read": 1, "lseek": 1,
    "fstat": 1, "newfstatat": 1, "clock_gettime": 1, "mmap+munmap": 2, "mprotect": 1, "madvise": 1,
    "brk": 1, "futex_wake": 1, "sched_yield": 1, "rt_sigprocmask": 1, "rt_sigaction": 1,
    "openat+close": 2, "dup+close": 2, "fcntl": 1, "ppoll": 1, "ioctl": 1, "getrandom": 1,
    "pipe": 2, "pingpong": 4, "signal": 2, "clone+join": 1, "fork+wait": 1,
}  # fmt: skip
HEAVY = ("clone+join", "fork+wait")  # which are many calls


def measure(bench: Bench) -> Results:
    results = Results()
    program, out = bench.build("syscalls"), bench.work / "calls.run"

    def costs(kind: str, rounds: int) -> dict[str, float]:
        ways = {
            "executed": shstk("exec", program, kind, str(rounds)),
            "recorded": record(program, kind, str(rounds), out=out),
        }
        return {way: cost.cpu for way, cost in bench.commands(ways).items()}

    idle = costs("loop", 1)
    for kind, calls in KINDS.items():
        bench.say(kind)
        rounds = bench.size(100_000, 2_000) // (50 if kind in HEAVY else calls)
        for way, seconds in costs(kind, rounds).items():
            most = None if kind in HEAVY else 2 if way == "executed" else 5
            each = (seconds - idle[way]) / (rounds * calls) * 1e6
            results.add(kind, way, each, "µs/call", most=most)
    return results
