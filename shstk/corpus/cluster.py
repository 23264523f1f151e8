"""Cells as Ray tasks, on the machines of a cluster. Scheduling, retries and transport are Ray's.

A cell is executed as on one machine: by a process of a pool (pool.py) that its Ray worker keeps, so
the same limits hold and the same outcomes occur. Its files reach the machine through Ray's object
store, each once (parcels.py). Its row comes back, and its run if that is to be kept.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, chdir, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from shstk.corpus.campaign import HostLimits
from shstk.corpus.contents import tool_build
from shstk.corpus.execute import Job, row_of
from shstk.corpus.parcels import Parcel, arrived, moved, packed, parcel, paths, unpacked
from shstk.corpus.pool import Done, Pool, pool, shared
from shstk.corpus.run import Work
from shstk.schemas.errors import ShstkError, UsageError

_RETRIES: Final = 20  # of a cell whose machine or Ray worker dies
_AHEAD: Final = 3  # cells handed to Ray for each processor: the next one must be there in time
_POLL: Final = 5.0  # seconds after which a cluster that has changed is noticed
_PATIENCE: Final = 10.0  # seconds until a head has to answer


@dataclass(frozen=True)
class _Sent:
    """parcels: by their paths on the driver's machine, with the objects that hold them. build: the
    driver's."""

    job: Job
    parcels: dict[Path, tuple[Parcel, Any]]
    limits: HostLimits
    build: str
    campaign: str


def on_cluster(
    address: str, limits: HostLimits, on_warning: Callable[[str], None] = lambda text: None
) -> Work:
    """Execute the cells on a cluster. address: of its head, or `auto`.

    Raises UsageError without Ray, and ShstkError if there is no such cluster. The work raises
    ShstkError if a machine of it has no shstk, or another one.
    """
    ray = _connected(address)

    def work(jobs: Iterable[Job]) -> Iterator[Done]:
        with ExitStack() as stack:
            stack.callback(ray.shutdown)  # it ends what this driver's tasks still do
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="shstk-runs-"))
            # Ray prints what happens to its machines, and would print it into our JSON.
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            yield from _worked(ray, jobs, limits, Path(scratch), on_warning)

    return work


def _worked(
    ray: Any,
    jobs: Iterable[Job],
    limits: HostLimits,
    scratch: Path,
    on_warning: Callable[[str], None],
) -> Iterator[Done]:
    task = ray.remote(num_cpus=1, max_retries=_RETRIES, retry_exceptions=[OSError])(_executed)
    todo, running = iter(jobs), dict[Any, Job]()
    objects: dict[Path, tuple[Parcel, Any]] = {}
    campaign, dead = ray.get_runtime_context().get_job_id(), set[str]()
    looked = 0.0
    while True:
        if time.monotonic() - looked >= _POLL:
            for node in ray.nodes():
                if not node["Alive"] and node["NodeID"] not in dead:
                    dead.add(node["NodeID"])
                    if looked:
                        name = node["NodeManagerAddress"]
                        on_warning(f"machine {name} has died; others execute its cells")
            looked = time.monotonic()
        room = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))) - len(running)
        for job in islice(todo, max(room, 0)):
            try:
                sent = _Sent(job, _stored(ray, job, objects), limits, tool_build(), campaign)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                yield Done(row_of(job, "refused", f"{where}{error.strerror or error}"), None)
                continue
            running[task.remote(sent)] = job
        if not running:
            return
        ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL)
        if ready:  # and all others that have ended
            ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
        for reference in ready:
            yield _done(ray, reference, running.pop(reference), scratch)


def _stored(
    ray: Any, job: Job, objects: dict[Path, tuple[Parcel, Any]]
) -> dict[Path, tuple[Parcel, Any]]:
    """The job's files as objects of the cluster. objects: those that stay for later jobs."""
    found = {}
    for path in paths(job):
        known = objects.get(path) or (parcel(path), ray.put(packed(path)))
        found[path] = known
        if path != job.kept:
            objects[path] = known
    return found


def _done(ray: Any, reference: Any, job: Job, scratch: Path) -> Done:
    """Raises the ShstkError of a machine that cannot work."""
    try:
        row, run = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ShstkError):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise ShstkError(
                f"a machine of the cluster has no shstk: {error.cause}", _SAME
            ) from None
        return Done(row_of(job, "refused", str(error.cause)), None)
    except ray.exceptions.RayError as error:
        return Done(row_of(job, "died", type(error).__name__), None)
    if run is None:
        return Done(row, None)
    unpacked(run, scratch)
    return Done(row, scratch / f"{row['run']}.run")


_SAME: Final = "install the same wheel on all machines"


def _connected(address: str) -> Any:
    try:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # of 40 s; auto may be out of date
        import ray
    except ImportError:
        raise UsageError("--ray needs the package ray", "pip install 'shstk[ray]'") from None
    if address != "auto":
        _answers(address)
    try:
        # Ray has its workers import from the driver's folder: in a checkout, a part of shstk.
        with chdir("/"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = str(error).partition("\n")[0]
        raise ShstkError(f"--ray {address}: {what}", _START) from None
    return ray


_START: Final = "`ray start --head` makes this machine the head of one (docs/corpus.md)"


def _answers(address: str) -> None:
    """Ray itself would try for a quarter of an hour."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and "/" not in host):
        raise UsageError(f"--ray: {address!r} is neither auto nor HOST:PORT", "as in 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ShstkError(f"--ray {address}: {error}", _START) from None


# ---- in a Ray worker, on any machine


def _executed(sent: _Sent) -> tuple[dict[str, Any], bytes | None]:
    """The row of a cell, and its run if it is to be kept. Raises OSError and ShstkError if this
    machine cannot work."""
    import ray

    if tool_build() != sent.build:
        raise ShstkError(f"{platform.node()} has another build of shstk", _SAME)
    workers, folder = _here(sent.limits, sent.campaign)
    places = {
        path: arrived(one, folder, partial(ray.get, held))
        for path, (one, held) in sent.parcels.items()
    }
    ((row, run),) = (
        (done.row, packed(done.run) if done.run else None)
        for done in workers.work([moved(sent.job, places)])
    )
    message = row["message"]
    for path, place in places.items():
        message = message and message.replace(str(place), str(path))
    if sent.job.kept:
        shutil.rmtree(places[sent.job.kept].parent, ignore_errors=True)
    return row | {"message": message, "spec": sent.job.cell.to_json()}, run


@cache
def _here(limits: HostLimits, campaign: str) -> tuple[Pool, Path]:
    """The process that executes this Ray worker's cells, and the folder for the files of all Ray
    workers on this machine."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(pool(1, limits)), stack.enter_context(shared(f"files-{campaign}"))
