"""Every command's text, as a user sees it. `pytest --update-snapshots` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shstk.__main__ import run

GUEST = Path(__file__).parents[2] / "shstk" / "guests" / "pthread.elf"

# name of the snapshot -> command line; RUNS stand in the current folder.
PLAIN = {
    "kernels": "kernels",
    "kernels-v4": "kernels v4",
    "rules": "rules",
    "plugins": "plugins",
    "explain-a5": "explain A5",
}
OF_RUNS = {
    "info": "info v3.run",
    "check-v3": "check v3.run",
    "check-v6": "check v6.run",
    "check-7.2-verbose": "check 7.2.run -v",
    "check-v3-revision": "check v3.run --expect revision",
    "check-v3-as-7.2": "check v3.run --as 7.2 --select A5,A7",
    "check-json": "check v3.run --format json --select A7,A8,P6",
    "check-csv": "check v6.run --format csv --select X1",
    "check-arm64": "check 7.2.run --rules arm64",
    "check-arm64-json": "check 7.2.run --rules arm64 --format json",
    "check-x86-v3": "check v3.run --rules x86",
    "stacks-v6": "stacks v6.run",
    "stacks-at": "stacks 7.2.run --at 2000",
    "log-calls": "log 7.2.run --tid 100 --calls",
    "log-around": "log 7.2.run --around 1364.1 -C 4",
    "log-cfi": "log 7.2.run --cfi --tid 102 --around 22000 -C 3",
    "diff-v3-v6": "diff v3.run v6.run -C 1",
    "diff-v6-7.2-task": "diff v6.run 7.2.run --task main/clone#2 --ignore shadow_stacks.made -C 0",
    "diff-json": "diff v6.run 7.2.run --task main/clone#2 -C 0 --format json",
    "diff-same": "diff 7.2.run 7.2.run",
    "query-tasks": "query v3.run 'SELECT tid, how, first_ssp, exit_seq FROM tasks'",
    "query-handoffs": "query v3.run 'SELECT seq, tid, stack_due, ssp, parent_ssp FROM handoffs'",
}
WRONG = {
    "no-such-command": ("recrd x", 2),
    "no-such-kernel": ("record --kernel v99 x.elf", 2),
    "no-such-switch": ("record --kernel 7.2,release=exit x.elf", 2),
    "no-such-parameter": ("record --kernel v3 --nousercfi --stdin /dev/null text.elf", 2),
    "no-such-program": ("record --stdin /dev/null nothing.elf", 3),
    "not-an-elf": ("record --stdin /dev/null text.elf", 3),
    "no-such-run": ("check nothing.run", 3),
    "run-exists": ("record --stdin /dev/null -o v3.run text.elf", 2),
    "no-such-architecture": ("check v3.run --rules mips", 2),
    "no-csv-of-rules": ("check v3.run --rules x86 --format csv", 2),
    "no-such-rule": ("explain Q9", 2),
    "bad-sql": ("query v3.run 'SELECT nothing FROM tasks'", 2),
    "no-such-table": ("query v3.run 'SELECT 1 FROM nowhere'", 2),
    "no-such-plugin": ("exec --plugin hot_block --stdin /dev/null text.elf", 2),
    "diff-no-such-task": ("diff v3.run v6.run --task main/clone#9", 2),
    "diff-no-such-word": ("diff v3.run v6.run --ignore ssp", 2),
    "no-program": ("matrix", 2),
    "bad-seq": ("stacks v3.run --at soon", 2),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pthread guest recorded under v3, v6 and 7.2."""
    import shstk

    folder = tmp_path_factory.mktemp("runs")
    for kernel in ("v3", "v6", "7.2"):
        shstk.record(GUEST, kernel=kernel, out=folder / f"{kernel}.run")
    (folder / "text.elf").write_text("this is no ELF\n")
    return folder


def shown(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code, and standard output followed by standard error, of one command line."""
    import shlex

    code = run(shlex.split(line))
    out, err = capfd.readouterr()
    return code, out + err


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("SHSTK_DEBUG", raising=False)


@pytest.mark.parametrize("name", PLAIN)
def test_plain(
    name: str, capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]
) -> None:
    code, text = shown(PLAIN[name], capfd)
    assert code == 0
    snapshot(name, text)


@pytest.mark.parametrize("name", OF_RUNS)
def test_of_runs(
    name: str,
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(runs)
    code, text = shown(OF_RUNS[name], capfd)
    assert code in (0, 1)
    words = ("violated", "differs", '"actual":')
    finds = name.startswith("check") and any(word in text for word in words)
    differs = name.startswith("diff") and "no difference" not in text
    assert (code == 1) == (finds or differs)
    assert str(os.getcwd()) not in text
    snapshot(name, text)


@pytest.mark.parametrize("name", WRONG)
def test_wrong(
    name: str,
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(runs)
    line, expected = WRONG[name]
    code, text = shown(line, capfd)
    assert code == expected
    assert "Traceback" not in text
    snapshot(f"wrong-{name}", text)


def test_demo(capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]) -> None:
    code, text = shown("demo", capfd)
    assert code == 0
    assert text.count("four threads computed 1364") == 3
    snapshot("demo", text)


def test_matrix(capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]) -> None:
    code, text = shown(f"matrix --kernels v3,v6,7.2 {GUEST}", capfd)
    assert code == 1
    snapshot("matrix", text)
