"""What it costs to judge: python -m benchmarks.verdicts [NAME=COUNT...]

`again` (fixtures) does one thing COUNT times: threads, forks, spawns, signals, maps, faults,
mismatches; fib=33 is the guest of that name. Each run is judged by a process of its own: CPU
seconds, the most memory that it had, and the slowest rules.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import shstk
from benchmarks.guests import build
from shstk.replay.causes import causes
from shstk.replay.check import chosen
from shstk.replay.facts import Facts
from shstk.replay.uncollected import uncollected
from shstk.schemas.tables import DERIVABLE
from shstk.tracer.record import RecordOptions, record

AGAIN = Path(__file__).parents[1] / "fixtures" / "bin" / "again.elf"
WHAT = ("threads=1000", "forks=1000", "signals=1000", "maps=1000", "faults=1000", "fib=30")


def recorded(name: str, count: int, out: Path) -> Path:
    """A run of what is asked for."""
    if name == "fib":
        program = build("fib", out.parent, "start_linux.S", flags=(f"-DNUMBER={count}",))
        options = RecordOptions(str(program), out=out)
    else:
        options = RecordOptions(str(AGAIN), argv=(name, str(count)), out=out)
    return record(options).path


def judge(path: Path) -> dict[str, Any]:
    """CPU seconds of all, and of each rule; MB; rows of the tables that are made when read."""
    run, rules, seconds, results = shstk.open(path), chosen((), ()), {}, []
    run.prepare(DERIVABLE)
    begun = time.process_time()
    facts = Facts(run, run.row, "intent", rules)
    with uncollected():
        for rule in rules:
            at = time.process_time()
            results.append(rule.check(facts))
            seconds[rule.id] = time.process_time() - at
        causes(facts, results)
    return {
        "cpu": time.process_time() - begun,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "rows": {name: run.rows(name) for name in DERIVABLE},
        "rules": seconds,
    }


def measured(path: Path) -> dict[str, Any]:
    """`judge` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.verdicts", "--judge", str(path)]
    told: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True).stdout
    )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, help="judge this run, and write JSON")
    parser.add_argument("what", nargs="*", default=WHAT, metavar="NAME=COUNT")
    options = parser.parse_args()
    if options.judge:
        json.dump(judge(options.judge), sys.stdout)
        return
    print(f"{'what':18}{'cfi rows':>12}{'CPU s':>8}{'MB':>7}  slowest rules")
    with tempfile.TemporaryDirectory() as directory:
        for what in options.what:
            name, _, count = what.partition("=")
            told = measured(recorded(name, int(count), Path(directory) / f"{what}.run"))
            slow = sorted(told["rules"].items(), key=lambda rule: -rule[1])[:5]
            rules = " ".join(f"{id} {seconds:.2f}" for id, seconds in slow)
            cfi = told["rows"].get("cfi", 0)
            print(f"{what:18}{cfi:12}{told['cpu']:8.2f}{told['mb']:7}  {rules}", flush=True)


if __name__ == "__main__":
    main()
