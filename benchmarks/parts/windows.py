"""Executing again, and windows of 1,000 instructions at random places: without any checkpoint, the
last one, and with the checkpoints that it has left. CPU seconds.
"""

import random
import statistics
from pathlib import Path

from benchmarks.guests import build
from benchmarks.harness import Bench, Results, cost
from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.rerun.window import window
from shstk.schemas.seq import STEPS
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")
LENGTH = 1000


def _look(run: Run, begin: int, cache: Path) -> float:
    """Seconds for one window."""

    def act() -> None:
        frames = window(run, begin * STEPS, (begin + LENGTH - 1) * STEPS, cache=cache)
        assert sum(frame.height for frame in frames) == LENGTH

    return cost(act).cpu


def measure(bench: Bench) -> Results:
    results = Results()
    for name in NAMES:
        bench.say(name)
        out = bench.work / f"{name}.windows.run"
        options = RecordOptions(
            str(build(name, bench.work, "start_linux.S")), out=out, force=True, tier="auto"
        )
        results.add(name, "record", cost(lambda o=options: record(o)).cpu)  # type: ignore[misc]
        run = Run.open(out)
        end = run.manifest.icount
        results.add(name, "replay", cost(lambda r=run: replay(r)).cpu)  # type: ignore[misc]
        number = bench.size(20, 3)
        places = [random.Random(i).randrange(1, end - LENGTH) for i in range(number)]
        cold = [_look(run, at, bench.work / f"cold {name} {at}") for at in places[:3]]
        cache = bench.work / f"cache {name}"
        results.add(name, "cold", statistics.median(cold), most=1)
        results.add(name, "last", _look(run, end - LENGTH, cache))
        warm = [_look(run, at, cache) for at in places]
        results.add(name, "warm", statistics.median(warm), most=0.1)
        results.add(name, "warm, longest", max(warm))
        kept = [file.stat().st_size for file in cache.rglob("*") if file.is_file()]
        results.add(name, "checkpoints", sum(kept) / 1e6, "MB")
    return results
