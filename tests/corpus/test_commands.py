"""What is asked of campaigns: reports, SQL, differences, other judgements, the least that shows."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from campaign_files import corpus, rows

from shstk.__main__ import run
from shstk.corpus.reduce import least, reduce
from shstk.corpus.store import Store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """old: a campaign of leak, dies and good under v6 and 7.2. Its runs with findings are kept."""
    folder = tmp_path_factory.mktemp("campaigns")
    file = corpus(folder, 'kernels = ["v6", "7.2"]', "leak", "dies", "good")
    run(["corpus", "run", str(file), "-o", str(folder / "old"), "-j", "2", "--keep", "findings"])
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def said(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(["corpus", *shlex.split(line)])
    return code, capfd.readouterr().out


def told(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code, text = said(f"{line} --format json", capfd)
    return code, json.loads(text)


def test_a_report_has_each_cause_once(capfd: pytest.CaptureFixture[str]) -> None:
    code, text = said("report old", capfd)
    assert code == 1
    assert text.splitlines()[-1] == ("old: 6 of 6 cells done, 1 with findings of 1 cause, 0 failed")
    code, whole = told("report old", capfd)
    (cause,) = whole["causes"]
    assert (cause["rule"], cause["kernels"], cause["programs"]) == ("X1", ["v6"], ["leak"])
    assert cause["reproduce"] in text


def test_the_page_has_the_matrix_and_what_is_new(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    said("check old -o judged --as 7.2", capfd)
    code, _ = said("report judged --against old --html page.html", capfd)
    assert code == 1
    page = Path("page.html").read_text()
    assert re.findall("<th>(.*?)</th>", page) == ["program", "v6", "7.2"]
    assert len(re.findall("<tr><td>", page)) == 3
    new = re.findall(r'<span class="bad">new</span> (\w+)', page)
    assert new == ["P6"]
    for link in re.findall('href="#(.*?)"', page):
        assert f'id="{link}"' in page
    assert "shstk record --kernel v6" in page
    assert run(["corpus", "report", "judged", "--html", "page.html"]) == 2  # it exists


def test_sql_over_a_campaign(capfd: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT program, kernel, rule, count(*) AS n FROM findings GROUP BY program, kernel, rule"
    assert told(f"query old {shlex.quote(sql)}", capfd) == (
        0,
        [{"program": "leak", "kernel": "v6", "rule": "X1", "n": 1}],
    )
    sql = (
        "SELECT program, ending FROM cells WHERE kernel = '7.2' AND outcome <> 'timeout' ORDER BY 1"
    )
    names = [row["program"] for row in told(f"query old {shlex.quote(sql)}", capfd)[1]]
    assert names == ["dies", "good", "leak"]
    assert run(["corpus", "query", "old", "SELECT * FROM read_csv('x')"]) == 2
    assert run(["corpus", "query", "old", "SELECT nothing FROM cells"]) == 2
    assert run(["corpus", "query", "nowhere", "SELECT 1 FROM cells"]) == 3


def test_judged_by_another_selection_without_executing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The program is gone: only the kept run can be judged."""
    leak = Path("bin/leak").read_bytes()
    Path("bin/leak").unlink()
    try:
        code, whole = told("check old -o families --select P,X", capfd)
    finally:
        Path("bin/leak").write_bytes(leak)
    assert code == 1
    assert [cause["rule"] for cause in whole["causes"]] == ["X1"]
    (failed,) = whole["failed"]  # it had no finding under 7.2, so that run was not kept
    assert failed["outcome"] == "refused"
    assert "bin/leak: No such file" in failed["message"]
    assert told("check old -o none --ignore X", capfd)[0] == 0
    assert run(["corpus", "check", "old", "-o", "old"]) == 2
    assert run(["corpus", "check", "old", "-o", "wrong", "--select", "Q9"]) == 2


def test_differences_of_campaigns(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert told("diff old old", capfd)[1]["new"] == []
    said("check old -o ignored --ignore X", capfd)
    code, whole = told("diff ignored old", capfd)
    assert code == 1
    assert [(c["rule"], c["kernels"]) for c in whole["new"]] == [("X1", ["v6"])]
    code, whole = told("diff old ignored", capfd)  # X was not judged there, so it is not gone
    assert (code, whole["new"], whole["gone"]) == (0, [], [])
    (place / "next").mkdir(exist_ok=True)
    file = corpus(place / "next", 'kernels = ["v6", "7.2"]', "leak", "dies", "good")
    Path("next/bin/leak").write_bytes(Path("bin/good").read_bytes())
    Path("next/bin/good").write_bytes(Path("bin/dies").read_bytes())
    said(f"run {file} -o new -j 2", capfd)
    code, text = said("diff old new", capfd)
    assert code == 0
    assert text.splitlines()[-1] == (
        "old -> new: causes: 0 new, 0 gone, 0 moved; 2 ends differ"
    )  # nothing of X1 is left to judge
    endings = told("diff old new", capfd)[1]["endings"]
    assert {(e["command"], e["a"], e["b"]) for e in endings} == {
        ("good", "exited with 0", "SIGILL (ILL_ILLOPC)")
    }


def test_the_least_that_shows_a_cause(capfd: pytest.CaptureFixture[str]) -> None:
    (cause,) = told("report old", capfd)[1]["causes"]
    code, least_ = told(f"reduce old {cause['cause'][:5]}", capfd)
    assert code == 0
    assert (least_["clean"], least_["switches"]) == ("7.3", ["release_hook=exit_thread"])
    record, check = least_["reproduce"].split(" && ")
    assert run(shlex.split(record)[1:]) == 0
    assert run(shlex.split(check)[1:]) == 1
    assert run(["corpus", "reduce", "old", "ffffffff"]) == 2


def test_the_least_input_that_shows_a_cause(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = corpus(tmp_path, 'kernels = ["v6"]', "reads")
    file.write_text(file.read_text() + 'stdin = ["input"]\nargs = [["-v", "file"]]\n')
    (tmp_path / "input").write_bytes(b"xyz\nmore\n")
    said(f"run {file} -o reading -j 1", capfd)
    (cause,) = told("report reading", capfd)[1]["causes"]
    code, found = told(f"reduce reading {cause['cause']} --clean 7.3 --input small", capfd)
    assert (code, found["command"]) == (0, "reads < small")
    assert Path("small").read_bytes() == b"x"


def test_a_trial_that_never_ends_does_not_show_it(tmp_path: Path) -> None:
    file = corpus(tmp_path, 'kernels = ["v6"]', "needs")
    file.write_text(f'{file.read_text()}args = [["-v", "x"]]\n')
    run(["corpus", "run", str(file), "-j", "1"])
    store = Store(tmp_path / "CORPUS.store")
    (cause,) = store.findings.collect()["cause"]
    found = reduce(store, cause, tmp_path / "input", clean="7.3", patience=1)
    assert found.cell.subject.argv == ("",)
    assert found.switches == ("release_hook=exit_thread",)


def test_a_damaged_batch_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("old", "damaged")
    batch = next(Path("damaged/cells").rglob("*.parquet"))
    batch.write_bytes(batch.read_bytes()[:300])
    assert run(["corpus", "report", "damaged"]) == 3
    assert batch.name in capfd.readouterr().err


def test_a_plan_of_another_version_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("old", "newer")
    plan = pq.read_table("newer/plan.parquet").to_pydict()
    spec = json.loads(plan["spec"][0]) | {"flavour": "sweet"}
    pq.write_table(pa.table(plan | {"spec": [json.dumps(spec)] * 6}), "newer/plan.parquet")
    assert run(["corpus", "report", "newer"]) == 3
    assert "is of another version of shstk" in capfd.readouterr().err
    file = corpus(Path(), 'kernels = ["v6", "7.2"]', "leak", "dies", "good")
    assert told(f"run {file} -o newer", capfd)[1]["executed"] == 0
    assert run(["corpus", "report", "newer"]) == 1


def test_a_store_that_cannot_be_written(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half-written stays."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = corpus(Path(), 'kernels = ["v6"]', "good")
    assert run(["corpus", "run", str(file), "-o", "/dev/null/x"]) == 3
    monkeypatch.setattr(os, "fsync", full)
    assert run(["corpus", "run", str(file), "-o", "full"]) == 3
    assert "cannot write to full/plan.parquet: No space left" in capfd.readouterr().err
    assert [*Path("full").iterdir()] == []


@pytest.mark.parametrize("needed", ["", "a", "h", "adh", "abcdefgh"])
def test_delta_debugging_leaves_what_is_needed(needed: str) -> None:
    assert "".join(least("abcdefgh", lambda some: set(needed) <= set(some))) == needed


def test_merge_takes_kept_runs_along(capfd: pytest.CaptureFixture[str]) -> None:
    assert said("merge old old -o merged", capfd)[0] == 0
    assert rows(Path("merged")) == rows(Path("old"))
    kept = [path.name for path in Path("old/kept").iterdir()]
    assert [path.name for path in Path("merged/kept").iterdir()] == kept
    assert Store("merged").kept(kept[0].removesuffix(".run"))
    assert run(["corpus", "merge", "old", "-o", "merged"]) == 2
