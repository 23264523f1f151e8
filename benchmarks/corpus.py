"""A campaign against a shell loop, and on Ray.

python benchmarks/corpus.py [--seeds N] [--ray ADDRESS]
python benchmarks/corpus.py --growth 10000

Cells are fixtures x all revisions x seeds. The loop is what `shstk corpus` prints for a cell,
`shstk record … && shstk check …`, as many at a time as the campaign has workers; it does only
--sample of the cells. Also: the memory of a worker over its cells, what a cell costs besides
recording and judging, and the time of queries over a million findings. --growth is the memory of
one worker over that many cells of one small program, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from shstk.corpus.campaign import Campaign, load
from shstk.corpus.execute import Job
from shstk.corpus.pool import Done
from shstk.corpus.run import Keeping, on_this_machine, run
from shstk.corpus.store import Store
from shstk.schemas.revisions import REVISIONS

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bin"
GUESTS = ("a1", "a4", "a7", "x1", "x2", "x4", "sc1", "sc4", "sc7", "signals", "again", "areas")

_COMMITTED = 100_000  # findings at a time
_STEPS = 10  # of the cells, of each of which the memory is told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=24)
    parser.add_argument("--findings", type=int, default=1_000_000)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--ray", metavar="ADDRESS", help="the campaign on a Ray cluster, too")
    parser.add_argument("--growth", type=int, metavar="CELLS", help="memory of one worker")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.growth:
            growth(Path(folder), given.growth)
        else:
            whole(Path(folder), given)


def planned(folder: Path, kernels: Iterable[str], seeds: int, guests: Iterable[str]) -> Campaign:
    path = folder / "CORPUS.toml"
    (folder / "bin").symlink_to(FIXTURES)
    files = [f"bin/{name}.elf" for name in guests]
    lines = [f"kernels = {json.dumps([*kernels])}", f"seeds = {seeds}"]
    path.write_text("\n".join([*lines, "[[program]]", f"files = {json.dumps(files)}"]))
    return load(path)


def growth(folder: Path, cells: int) -> None:
    """x2 has findings under v6. Every cell is executed: its seed is in its key."""
    campaign, store = planned(folder, ["v6"], cells, ["x2"]), Store(folder / "store")
    work, step = on_this_machine(1, campaign.host), max(1, cells // _STEPS)

    def told(jobs: Iterable[Job]) -> Iterator[Done]:
        most = 0
        for number, done in enumerate(work(jobs), 1):
            most = max(most, done.row["resident"] or 0)
            if number % step == 0:
                driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
                print(f"cell {number}: worker {most >> 20} MiB, driver {driver} MiB", flush=True)
                most = 0
            yield done

    done = run(campaign.cells, store, work=told, keeping=Keeping())
    print(f"{done.executed} cells, {done.failed} failed, {done.found} with findings")


def whole(folder: Path, given: argparse.Namespace) -> None:
    campaign, store = planned(folder, REVISIONS, given.seeds, GUESTS), Store(folder / "store")
    work = on_this_machine(given.jobs, campaign.host)
    began = time.monotonic()
    done = run(campaign.cells, store, work=work, keeping=Keeping())
    took = time.monotonic() - began
    rows = store.cells.collect()
    busy = rows["seconds"].sum()
    print(f"{done.executed} cells, {done.failed} failed, {done.found} with findings")
    print(f"campaign: {done.executed / took:.2f} cells/s, {took:.0f} s with {given.jobs} workers")
    outside = (took * given.jobs - busy) / done.executed
    print(f"  a cell: {busy / done.executed:.3f} s recorded and judged, {outside:.3f} s besides")
    began = time.monotonic()
    run(campaign.cells, store, work=work, keeping=Keeping())
    print(f"  again, nothing to do: {time.monotonic() - began:.2f} s")
    print(f"  resident, most, by fifths of the time: {resident(folder / 'store')} MiB")
    stored = sum(file.stat().st_size for file in (folder / "store").rglob("*.parquet"))
    print(f"  stored: {stored / done.executed:.0f} bytes a cell")

    if given.ray:
        from shstk.corpus.cluster import on_cluster

        cluster, place = on_cluster(given.ray, campaign.host), Store(folder / "ray")
        began = time.monotonic()
        done = run(campaign.cells, place, work=cluster, keeping=Keeping())
        took, busy = time.monotonic() - began, place.cells.collect()["seconds"].sum()
        print(f"on Ray: {done.executed / took:.2f} cells/s, {done.failed} failed")
        outside = (took * given.jobs - busy) / done.executed  # it has as many processors
        print(
            f"  a cell: {busy / done.executed:.3f} s recorded and judged, {outside:.3f} s besides"
        )

    sample = random.Random(0).sample(campaign.cells, given.sample)
    commands = [cell.commands for cell in sample]
    path = f"PATH={Path(sys.executable).parent}:$PATH; "
    began = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda line: shell(path + line, folder), commands))
    looped = time.monotonic() - began
    print(f"loop: {len(sample) / looped:.2f} cells/s, {given.jobs} at a time")

    many(folder, store, given.findings)


def resident(store: Path) -> list[int]:
    files = sorted(store.glob("cells/*/*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    bytes_ = pl.concat(pl.read_parquet(file, columns=["resident"]) for file in files)["resident"]
    size = -(-len(bytes_) // 5)
    return [int(bytes_.slice(at, size).max()) >> 20 for at in range(0, len(bytes_), size)]


def shell(line: str, folder: Path) -> None:
    subprocess.run(line, shell=True, cwd=folder, capture_output=True, check=False)


def many(folder: Path, store: Store, count: int) -> None:
    """Queries over a store that has rows of the real one, again and again under other keys."""
    real = store.cells.filter(pl.col("causes") > 0).collect()
    wide, cells, made, batch = Store(folder / "wide"), list(store.plan.values()), 0, 0
    keys: list[str] = []
    copies = 1 + _COMMITTED // real["findings"].list.len().sum()
    while made < count:
        parts = [
            real.with_columns(key=pl.format("{}-{}", "key", pl.lit(batch + n)))
            for n in range(copies)
        ]
        rows = pl.concat(parts)
        wide.commit(rows.to_dicts())
        keys += rows["key"].to_list()
        made += rows["findings"].list.len().sum()
        batch += copies
    wide.write_plan([cells[n % len(cells)] for n in range(len(keys))], keys)
    queries = {
        "findings by rule and kernel": wide.findings.group_by("rule", "kernel").len(),
        "findings of one kernel": wide.findings.filter(kernel="v6").select("rule", "function"),
        "outcomes": wide.cells.group_by("outcome").len(),
    }
    print(f"{made} findings of {len(keys)} cells:")
    for name, query in queries.items():
        began = time.monotonic()
        query.collect()
        print(f"  {name}: {time.monotonic() - began:.2f} s")


if __name__ == "__main__":
    main()
