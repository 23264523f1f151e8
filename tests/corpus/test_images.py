"""Images of real kernels as kernels of a campaign. A fake QEMU plays what a real one recorded; with
``pytest --live-kernel tests/corpus/test_images.py`` Debian's kernel is booted."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign_files import rows

import shstk
from shstk.__main__ import run
from shstk.corpus.campaign import load
from shstk.corpus.parcels import moved, paths
from shstk.corpus.run import Job, keyed
from shstk.corpus.store import Store
from shstk.tracer.packed import unpacked

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "realkernel"))

from kernelimage import image, task_struct  # noqa: E402
from machine import NotToBeHad, machine  # noqa: E402

A10 = TESTS.parent / "fixtures/bin/a10.elf"
DEMO = TESTS.parent / "shstk/guests/pthread.elf"
PLAYS = """
for word; do
    case "$word" in *,events=*) events=${word#*,events=}; cp played "${events%%,*}";; esac
done
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def qemu(does: str, version: str = "11.1.3") -> None:
    """One that says its version, and does this instead of booting."""
    Path("qemu").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo QEMU emulator version {version} && exit\n'
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1\n{does}"
    )
    Path("qemu").chmod(0o755)


def corpus(head: str = "kernels = []", more: str = "", guest: Path = A10) -> Path:
    """A CORPUS.toml with one image, ours, and one program."""
    if not Path("Image").exists():
        Path("Image").write_bytes(image(types=task_struct()))
    Path("CORPUS.toml").write_text(
        f'{head}\n[[image]]\nname = "ours"\nfile = "Image"\nqemu = "./qemu"\n{more}\n'
        f'[[program]]\nfiles = ["{guest.name}"]\n'
    )
    shutil.copy(guest, guest.name)
    return Path("CORPUS.toml")


def told(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = run(["corpus", *shlex.split(line), "--format", "json"])
    return code, json.loads(capfd.readouterr().out)


def recorded(name: str) -> bytes:
    path = TESTS / "realkernel" / "events" / f"{name}.zst"
    return unpacked(path, path.read_bytes())


def test_an_image_has_cells_beside_the_revisions() -> None:
    qemu(PLAYS)
    head = 'kernels = ["7.2"]\nseeds = 3\nquanta = ["1:2", "3:4"]\n'
    cells = load(corpus(head)).cells
    assert [(c.kernel, c.slices, c.seed) for c in cells][5:] == [
        ("7.2", "3:4", 2),
        ("ours", "", 0),
        ("ours", "", 1),
        ("ours", "", 2),
    ]
    cells = load(corpus(head, "seeds = [5]")).cells
    assert [c.seed for c in cells if c.image] == [5]


CHANGES: dict[str, Callable[[], object]] = {
    "the Image": lambda: Path("Image").write_bytes(image(types=task_struct(), touching=())),
    "QEMU": lambda: qemu(PLAYS, "11.1.4"),
    "append": lambda: corpus(more='append = "debug"'),
    "user": lambda: corpus(more="user = 0"),
    "kernel": lambda: corpus(more='kernel = "v6"'),
    "system-map": lambda: corpus(more='system-map = "qemu"'),
    "firmware": lambda: corpus(more='firmware = "qemu"'),
    "disk": lambda: corpus('kernels = []\n[limits]\ndisk = "1M"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_holds_what_the_result_depends_on(change: str) -> None:
    qemu(PLAYS)
    (before,) = keyed(load(corpus()).cells)
    CHANGES[change]()
    (after,) = keyed(load(Path("CORPUS.toml")).cells)
    assert before != after


def test_a_key_holds_no_path_of_the_host() -> None:
    """As it reaches another machine of a cluster, in other folders."""
    qemu(PLAYS)
    ((key, cell),) = keyed(load(corpus(more='system-map = "qemu"')).cells).items()
    job = Job(cell, key)
    elsewhere = {path: Path("/elsewhere") / path.name for path in paths(job)}
    assert Path("Image").absolute() in elsewhere
    there = moved(job, elsewhere).cell
    assert (there.image and there.image.file) == "/elsewhere/Image"
    assert {*keyed([there])} == {key}


def test_a_cell_is_what_the_printed_commands_say(capfd: pytest.CaptureFixture[str]) -> None:
    qemu(PLAYS)
    Path("played").write_bytes(recorded("a10"))
    file = corpus('kernels = ["7.2"]')
    code, whole = told(f"run {file} --keep all -j 1", capfd)
    assert (code, whole["failed"]) == (1, [])
    (cause,) = whole["causes"]  # the model and the real kernel have it
    assert (cause["rule"], cause["kernels"], cause["findings"]) == ("A10", ["7.2", "ours"], 4)
    store = Store("CORPUS.store")
    (row,) = store.cells.filter(kernel="ours").collect().to_dicts()
    record, check = store.plan[row["key"]].commands.split(" && ")
    assert run(shlex.split(record)[1:]) == 0
    capfd.readouterr()
    assert run([*shlex.split(check)[1:], "--format", "json"]) == 1
    (report,) = json.loads(capfd.readouterr().out)
    assert [f["note"] for f in row["findings"]] == [f["note"] for f in report["findings"]]
    kept = shstk.open(f"CORPUS.store/kept/{row['run']}.run").manifest
    alone = shstk.open(shlex.split(check)[2]).manifest
    assert kept.provenance.recorder == "qemu"
    assert kept.tables == alone.tables
    assert told(f"run {file}", capfd)[1]["executed"] == 0


def test_what_is_asked_of_a_campaign_with_an_image(capfd: pytest.CaptureFixture[str]) -> None:
    qemu(PLAYS)
    Path("played").write_bytes(recorded("kernel-never-released"))
    told(f"run {corpus(guest=DEMO)} -o broken -j 1", capfd)
    Path("played").write_bytes(recorded("pthread"))
    Path("Image").write_bytes(image(types=task_struct(), touching=()))
    told(f"run {corpus(guest=DEMO)} -o mended -j 1", capfd)
    code, whole = told("diff mended broken", capfd)  # by the name of the image
    assert (code, [(c["rule"], c["kernels"]) for c in whole["new"]]) == (1, [("X1", ["ours"])])
    assert [c["rule"] for c in told("diff broken mended", capfd)[1]["gone"]] == ["X1"]
    refused = told("check broken -o again", capfd)[1]["failed"]
    assert [one["message"] for one in refused] == ["ours: a file, or QEMU, is not that of the plan"]


def test_the_least_that_shows_a_cause_has_no_switches(capfd: pytest.CaptureFixture[str]) -> None:
    qemu(PLAYS)
    Path("played").write_bytes(recorded("a10"))
    (cause,) = told(f"run {corpus()} -j 1", capfd)[1]["causes"]
    code, found = told(f"reduce CORPUS.store {cause['cause']}", capfd)
    assert (code, found["kernel"], found["clean"], found["switches"]) == (0, "ours", None, [])
    run(["corpus", "reduce", "CORPUS.store", cause["cause"]])
    assert "ours is an Image: it has no switches to turn" in capfd.readouterr().out
    assert run(["corpus", "reduce", "CORPUS.store", cause["cause"], "--clean", "7.2"]) == 2


@pytest.mark.parametrize(
    ("does", "outcome", "message"),
    [
        ("echo no such machine >&2; exit 1", "refused", "ended with 1: no such machine"),
        ("exit 0", "refused", ""),
        ("exec sleep 1000", "timeout", None),
    ],
)
def test_a_machine_that_fails_is_an_outcome(
    does: str, outcome: str, message: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    qemu(f"echo $$ >> pid\n{does}\n")
    file = corpus("kernels = []\n[limits]\nseconds = 8")
    assert told(f"run {file} -j 1", capfd)[0] == 1
    (row,) = rows("CORPUS.store")
    assert row["outcome"] == outcome
    assert message is None or message in row["message"]
    pid = Path("pid").read_text().split()[-1]
    for _ in range(600):  # it is told to end, and needs a moment
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"QEMU is still there: {pid}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('name = "v6"', "there is another kernel v6"),
        ('name = "ours"\n[[image]]\nname = "ours"\nfile = "Image"', "another kernel ours"),
        ("", "image 1 has no file"),
        ('file = "nothing"', "nothing: No such file"),
        ('file = "qemu"', "not an Image of a riscv64 kernel"),
        ('qemu = "/nothing"', "--qemu /nothing: not found"),
        ('vmlinux = "nothing"', "nothing: No such file"),
        ('firmware = "nothing"', "no such file"),
        ('kernel = "v99"', "unknown kernel revision 'v99'"),
        ("user = -1", "user is not the number of a user"),
        ("imgae = 1", "unknown key 'imgae'"),
    ],
)
def test_a_wrong_image_is_refused(
    more: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    qemu(PLAYS)
    corpus()
    plain = "" if not more or "file" in more.split("\n")[0].split(" =")[0] else 'file = "Image"\n'
    plain += "" if "qemu =" in more else 'qemu = "./qemu"\n'
    Path("c.toml").write_text(
        f'kernels = []\n[[image]]\n{plain}{more}\n[[program]]\nfiles = ["a10.elf"]\n'
    )
    assert run(["corpus", "plan", "c.toml"]) in (2, 3)
    assert message in capfd.readouterr().err


def test_what_an_image_cannot_have(capfd: pytest.CaptureFixture[str]) -> None:
    qemu(PLAYS)
    file = corpus()
    file.write_text(f'{file.read_text()}enable-cfi = "on"\n')
    assert run(["corpus", "plan", str(file)]) == 2
    assert "enable-cfi is not possible with an image" in capfd.readouterr().err
    Path("none.toml").write_text('kernels = []\n[[program]]\nfiles = ["a10.elf"]\n')
    assert run(["corpus", "plan", "none.toml"]) == 2
    assert "names no kernel" in capfd.readouterr().err


def test_debians_kernel(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> None:
    if not request.config.getoption("--live-kernel"):
        pytest.skip("no real kernel was booted: that wants pytest --live-kernel")
    try:
        real = machine()
    except NotToBeHad as why:
        pytest.skip(f"no real kernel was booted: {why}")
    file = corpus('kernels = ["7.2"]')
    text = file.read_text().replace('"Image"', f'"{real.kernel}"')
    text = text.replace('"./qemu"', f'"{real.qemu}"\nfirmware = "{real.firmware}"')
    file.write_text(text)
    code, whole = told(f"run {file} -j 2", capfd)
    (cause,) = whole["causes"]
    assert (code, cause["rule"], cause["kernels"]) == (1, "A10", ["7.2", "ours"])
