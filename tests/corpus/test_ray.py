"""A campaign on a cluster of two machines: network namespaces that share no folder for files.

It takes minutes, and needs root and the package ray: pytest --whole tests/corpus/test_ray.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign_files import COMMAND, corpus, rows

import shstk
from shstk.corpus.store import Store

RULE = Path(__file__).parents[1] / "rules" / "own" / "stacks_are_small.py"
HEAD, OTHER = "10.213.77.1", "10.213.77.2"
PORT = 6399
ENVIRONMENT = os.environ | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # a machine that is gone is noticed sooner
    "no_proxy": "*",
}
# What a machine of its own has: no file of ours but the installed shstk, and a name.
ALONE = """
mount --make-rprivate / && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs "$1" &&
mount -t tmpfs tmpfs /tmp && hostname other && shift && exec "$@"
"""


@pytest.fixture(autouse=True, scope="module")
def possible(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--whole"):
        pytest.skip("starts a Ray cluster: pytest --whole tests/corpus/test_ray.py")
    pytest.importorskip("ray", reason="needs Ray: pip install 'shstk[ray]'")
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2: the machines are network namespaces")


class Cluster:
    """Two network namespaces, a wire between them, and a raylet in each."""

    def __init__(self, hidden: Path) -> None:
        """hidden: a folder that the other machine does not have."""
        self._spaces = [f"shstk-{os.getpid()}-{name}" for name in ("a", "b")]
        self._hidden, self._raylets = hidden, list[subprocess.Popen[bytes]]()
        self._temporary = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets: short names
        a, b = self._spaces
        for space in self._spaces:
            self._ip("netns", "add", space)
        self._ip("link", "add", "wire", "netns", a, "type", "veth", "peer", "wire", "netns", b)
        for space, address in zip(self._spaces, (HEAD, OTHER), strict=True):
            self._ip("-n", space, "addr", "add", f"{address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                self._ip("-n", space, "link", "set", device, "up")
        folder = ["--temp-dir", str(self._temporary)]
        self._ray(a, [], ["--head", "--port", str(PORT), "--node-ip-address", HEAD, *folder])
        self.join()

    def join(self) -> None:
        """The other machine becomes a part of it."""
        alone = ["unshare", "--uts", "--mount", "sh", "-c", ALONE, "sh", str(self._hidden)]
        self._ray(
            self._spaces[1], alone, ["--address", f"{HEAD}:{PORT}", "--node-ip-address", OTHER]
        )

    def kill_other(self) -> None:
        """Power off: every process of the other machine."""
        for pid in self._ip("netns", "pids", self._spaces[1]).split():
            os.kill(int(pid), signal.SIGKILL)

    def driver(self, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self._spaces[0], *COMMAND, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
        )

    def end(self) -> None:
        for space in self._spaces:
            for pid in self._ip("netns", "pids", space).split():
                os.kill(int(pid), signal.SIGKILL)
        for raylet in self._raylets:
            raylet.wait()
        for space in self._spaces:
            self._ip("netns", "del", space)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _ip(self, *words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

    def _ray(self, space: str, before: list[str], words: list[str]) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        start = [ray, "start", "--block", "--num-cpus", "1", "--disable-usage-stats", *words]
        start += ["--include-dashboard=false"] if "--head" in words else []
        start += ["--object-store-memory", "100000000"]
        log = self._temporary / f"{len(self._raylets)}.log"
        with log.open("wb") as out:
            command = ["ip", "netns", "exec", space, *before, *start]
            self._raylets.append(
                subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=ENVIRONMENT)
            )
        until(lambda: "Ray runtime started" in log.read_text(), 60)


def until(happened: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def committed(store: Path) -> int:
    return Store(store).every().collect().height


@pytest.fixture(scope="module")
def cluster(possible: None, undisturbed: Path) -> Iterator[Cluster]:
    made = Cluster(undisturbed)
    yield made
    made.end()


def told(driver: subprocess.Popen[str], seconds: float = 300) -> tuple[int, Any, str]:
    out, err = driver.communicate(timeout=seconds)
    assert "Traceback" not in err
    return driver.returncode, json.loads(out) if out else None, err


def test_every_outcome_is_as_on_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    """With files of each kind, which the other machine gets through Ray."""
    head = """
        kernels = ["7.2"]
        seeds = 2
        limits = { seconds = 6, memory = "900M" }
        judge = { rules-from = ["own.py"] }
    """
    file = corpus(tmp_path, head, "good", "eater", "endless")
    shutil.copy(RULE, tmp_path / "own.py")
    (tmp_path / "root/usr").mkdir(parents=True)
    shutil.copy(tmp_path / "bin/good", tmp_path / "root/usr/prog")
    (tmp_path / "root/usr/prog").chmod(0o755)
    (tmp_path / "input").write_text("some")
    (tmp_path / "bin/text").write_text("no ELF")
    with file.open("a") as out:
        out.write('[[program]]\nfiles = ["bin/text"]\nstdin = ["input"]\n')
        out.write('[[program]]\nroot = "root"\nfiles = ["/usr/prog"]\nbinds = ["bin:/mnt"]\n')
    code, whole, _ = told(cluster.driver("run", file, "--ray", "auto", "--format", "json"))
    assert (code, whole["executed"]) == (1, 10)
    assert subprocess.run([*COMMAND, "run", file, "-o", tmp_path / "local"], check=False).returncode
    assert rows(tmp_path / "CORPUS.store") == rows(tmp_path / "local")
    outcomes = {row["program"]: row["outcome"] for row in rows(tmp_path / "local")}
    assert outcomes == {
        "good": "finished",
        "/usr/prog": "finished",
        "endless": "timeout",
        "eater": "memory",
        "text": "refused",
    }
    hosts = Store(tmp_path / "CORPUS.store").cells.select("host").unique().collect()
    assert len(hosts) == 2


def test_a_machine_that_dies(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ("-o", store, "--ray", f"{HEAD}:{PORT}", "--keep", "findings", "--format", "json")
    driver = cluster.driver("run", undisturbed / "CORPUS.toml", *words)
    until(lambda: committed(store) >= 10, 100)
    cluster.kill_other()
    before = committed(store)
    assert before < 44
    code, whole, err = told(driver)
    assert (code, whole["executed"], whole["failed"]) == (1, 48, [])
    assert f"machine {OTHER} has died" in err
    assert rows(store) == rows(undisturbed / "CORPUS.store")
    assert committed(store) == 48
    some = Store(store).cells.select("host", "run", "causes").collect()
    assert len(set(some["host"])) == 2
    kept = {path.name.removesuffix(".run") for path in (store / "kept").iterdir()}
    assert kept == {run for _, run, causes in some.iter_rows() if causes}
    for run in kept:
        shstk.open(store / "kept" / f"{run}.run")
    cluster.join()


def test_ctrl_c_and_kill_9_of_the_driver(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    words = ("run", undisturbed / "CORPUS.toml", "-o", store, "--ray", "auto", "--format", "json")
    driver = cluster.driver(*words)
    until(lambda: committed(store) > 0, 100)
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out, err.split()) == (130, "", ["interrupted"])
    first = committed(store)
    assert 0 < first < 48
    driver = cluster.driver(*words)
    until(lambda: committed(store) > first, 100)
    driver.kill()
    driver.communicate()
    code, whole, _ = told(cluster.driver(*words))
    assert code == 1
    assert whole["executed"] < 48 - first
    assert rows(store) == rows(undisturbed / "CORPUS.store")
