"""A campaign's cells: each as single commands say, and none ends the campaign."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from campaign_files import corpus, rows

import shstk
from shstk.__main__ import run
from shstk.corpus.campaign import HostLimits, load
from shstk.corpus.execute import Job, execute
from shstk.corpus.pool import pool
from shstk.corpus.run import keyed
from shstk.corpus.store import Store

RULE = Path(__file__).parents[1] / "rules/own/stacks_are_small.py"
TWO = 'kernels = ["v6", "7.2"]\nseeds = 2'
SHORT = 'kernels = ["7.2"]\n[limits]\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    code = run(["corpus", *shlex.split(line), "--format", "json"])
    return code, json.loads(capfd.readouterr().out)


def same_as_single_commands(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """Every cell, as the commands that are printed for it record and judge it."""
    findings = store.findings.collect()
    for row in store.cells.collect().iter_rows(named=True):
        record, check = store.plan[row["key"]].commands.split(" && ")
        run(shlex.split(record)[1:])
        out = shlex.split(check)[2]
        capfd.readouterr()
        assert run([*shlex.split(check)[1:], "--format", "json"]) == (1 if row["causes"] else 0)
        judged = json.loads(capfd.readouterr().out)
        (report,) = judged if isinstance(judged, list) else (judged,)
        mine = findings.filter(key=row["key"]).to_dicts()
        names = ("rule", "expected", "actual", "note", "tid")
        told = [[finding[name] for name in names] for finding in report["findings"]]
        assert sorted([finding[name] for name in names] for finding in mine) == sorted(told)
        alone, kept = (
            shstk.open(path).manifest for path in (out, f"{store.where}/kept/{row['run']}.run")
        )
        assert (alone.icount, alone.ending) == (kept.icount, kept.ending)
        for name in {*alone.tables} & {*kept.tables}:
            assert alone.tables[name].content_sha256 == kept.tables[name].content_sha256


def test_a_cell_is_what_the_printed_commands_say(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = corpus(tmp_path, TWO, "leak", "good", "dies")
    code, summary = told(f"run {file} -j 2 --keep all", capfd)
    assert code == 1
    assert (summary["cells"], summary["executed"], summary["failed"]) == (12, 12, [])
    store = Store("CORPUS.store")
    same_as_single_commands(store, capfd)
    endings = {(r["program"], r["ending"].split()[0]) for r in rows(Path("CORPUS.store"))}
    assert endings == {("leak", "exited"), ("good", "exited"), ("dies", "SIGILL")}
    findings = store.findings.collect()
    assert set(findings["kernel"]) == {"v6"}
    assert set(findings["program"]) == {"leak"}


def test_so_it_is_with_all_that_a_cell_can_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Arguments, inputs, roots, binds, environment, quanta, CPUs, switches, limits, judging."""
    file = corpus(
        tmp_path,
        """
        kernels = ["7.3,release_hook=exit_thread"]
        quanta = ["20:40", "10000:50000"]
        cpus = ["rv64gc_zicfiss_zicfilp", "rv64gc"]
        seeds = [7]
        [limits]
        instructions = 200
        disk = "1M"
        [judge]
        expect = "intent"
        select = ["X", "P"]
        ignore = ["X7"]
        """,
        "reads",
        "leak",
    )
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "bin/leak").rename(tmp_path / "tree/bin/leak").chmod(0o755)
    (tmp_path / "yes").write_text("x")
    (tmp_path / "no").write_text("n")
    program = '[[program]]\nfiles = ["bin/reads"]\nargs = [["-v", "two words"]]\n'
    program += 'stdin = ["yes", "no"]\nenv = { LANG = "C", A = "b c" }\n'
    program += '[[program]]\nroot = "tree"\nfiles = ["/bin/leak"]\nbinds = ["yes:/data"]\n'
    file.write_text(file.read_text().partition("[[program]]")[0] + program + 'cwd = "/bin"\n')
    summary = told(f"run {file} -j 2 --keep all", capfd)[1]
    assert (summary["cells"], summary["failed"]) == (12, [])
    store = Store("CORPUS.store")
    same_as_single_commands(store, capfd)
    leaked = store.findings.select("command", "cpu", "quantum").collect().unique().rows()
    with_stacks = "rv64gc_zicfiss_zicfilp"
    assert {*leaked} == {
        (command, with_stacks, quantum)
        for command in ("reads -v 'two words' < yes", "/bin/leak")
        for quantum in ("20:40", "10000:50000")
    }


def test_what_is_done_and_valid_is_not_done_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = corpus(tmp_path, 'kernels = ["7.2"]', "good", "dies")
    assert told(f"run {file} -j 1", capfd)[1]["executed"] == 2
    assert told(f"run {file} -j 1", capfd)[1]["executed"] == 0
    file = corpus(tmp_path, 'kernels = ["7.2", "7.2,lock_arg=ignored"]', "good", "dies")
    assert told(f"run {file} -j 1", capfd)[1]["executed"] == 2
    (tmp_path / "bin" / "good").write_bytes((tmp_path / "bin" / "dies").read_bytes())
    code, summary = told(f"run {file} -j 1", capfd)
    assert (code, summary["cells"], summary["executed"]) == (0, 4, 2)
    assert {row["ending"].split()[0] for row in rows(Path("CORPUS.store"))} == {"SIGILL"}


@pytest.mark.parametrize(
    "change",
    [
        'kernels = ["v6"]',
        "seeds = [1]",
        'quanta = ["20:40"]',
        'cpus = ["rv64gc"]',
        "[limits]\ninstructions = 5",
        "[limits]\ndisk = 4096",
        '[judge]\nexpect = "revision"',
        '[judge]\nignore = ["X"]',
    ],
)
def test_a_key_holds_what_the_result_depends_on(tmp_path: Path, change: str) -> None:
    plain = 'kernels = ["7.2"]' if "kernels" not in change else ""
    (before,) = keyed(load(corpus(tmp_path, 'kernels = ["7.2"]', "good")).cells)
    (after,) = keyed(load(corpus(tmp_path, f"{plain}\n{change}", "good")).cells)
    assert before != after


def test_a_key_holds_no_path_of_the_host(tmp_path: Path) -> None:
    keys = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keys.append(list(keyed(load(corpus(tmp_path / name, TWO, "good", "leak")).cells)))
    assert keys[0] == keys[1]


def test_a_cell_that_fails_is_an_outcome(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    limits = f'{SHORT}seconds = 5\nmemory = "700M"'
    file = corpus(tmp_path, limits, "eater", "good", "endless")
    (tmp_path / "bin" / "text").write_text("no ELF")
    file.write_text(file.read_text().replace('"bin/good"', '"bin/text", "bin/good"'))
    assert told(f"run {file} -j 2", capfd)[0] == 1
    outcomes = {row["program"]: row["outcome"] for row in rows(Path("CORPUS.store"))}
    assert outcomes == {
        "eater": "memory",
        "endless": "timeout",
        "good": "finished",
        "text": "refused",
    }
    corpus(tmp_path, limits, "good")
    (tmp_path / "bin" / "text").write_text("no ELF")
    file.write_text(file.read_text().replace('"bin/good"', '"bin/text", "bin/good"'))
    assert told(f"run {file} -j 2", capfd)[1]["executed"] == 0
    assert told(f"run {file} -j 2 --retry", capfd)[1]["executed"] == 1


def test_a_full_disk_ends_one_cell(tmp_path: Path) -> None:
    (cell,) = load(corpus(tmp_path, f"{SHORT}disk = 1", "endless")).cells
    (tmp_path / "scratch").mkdir()
    row = execute(Job(cell, "key"), tmp_path / "scratch")
    assert (row["outcome"], row["ending"]) == ("finished", "full")


def test_a_worker_is_replaced_after_many_cells(tmp_path: Path) -> None:
    cells = load(corpus(tmp_path, 'kernels = ["7.2"]\nseeds = 5', "good")).cells
    with pool(1, HostLimits(), renewed=2) as processes:
        jobs = [Job(cell, str(cell.seed), keep="all") for cell in cells]
        folders = {done.row["key"]: done.run and done.run.parent for done in processes.work(jobs)}
    assert len(folders) == 5  # each worker has its own
    assert folders["0"] == folders["1"] != folders["2"] == folders["3"] != folders["4"]


def test_runs_are_kept_by_policy(
    tmp_path: Path, undisturbed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = sorted((undisturbed / "CORPUS.store/kept").iterdir())
    assert {shstk.open(path).manifest.kernel for path in kept} == {"v6"}
    assert len(kept) == 12
    file = corpus(tmp_path, 'kernels = ["7.2"]', "good")
    told(f"run {file} --keep all --keep-size 1 -j 1", capfd)
    assert not Path("CORPUS.store/kept").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernels = [1]", "kernels is not text"),
        ('kernels = ["v99"]', "c.toml: kernels: unknown kernel revision 'v99'"),
        ('cpus = ["rv128"]', "c.toml: cpus: --cpu rv128: no such ISA"),
        ("seeds = -1", "seeds is not a number above 0"),
        ("seeds = [-1]", "seeds is not a number of seeds or a list of seeds"),
        ('[judge]\nselect = ["Q9"]\n[[program]]\nfiles = ["c.toml"]', "no rule 'Q9'"),
        ("sedes = 1", "unknown key 'sedes'"),
        ("seeds = 0", "seeds is not a number above 0"),
        ('quanta = ["9:1"]', "quanta is not a list of ranges"),
        ("limits = 1", "limits is no table"),
        ("[limits]\nmemory = 'x'", "memory is not a size"),
        ("[[program]]\nfiles = ['*.elf']", "no file matches '*.elf'"),
        ("[[program]]", "has no files"),
        ("program = 1", "program is no list of tables"),
        ("", "names no program"),
        ("[", "it is not TOML"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("c.toml").write_text(text)
    assert run(["corpus", "plan", "c.toml"]) == 2
    assert message in capfd.readouterr().err


def test_the_example_of_the_manual_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    for name in ("bin/a.elf", "input1", "input2", "our_rule.py", "debian/usr/bin/sort", "data"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    shutil.copy(RULE, tmp_path / "our_rule.py")
    (tmp_path / "CORPUS.toml").write_text(text)
    campaign = load(tmp_path / "CORPUS.toml")
    assert [s.command for s in campaign.subjects] == [
        "a.elf < input1",
        "a.elf < input2",
        "a.elf -n 2 < input1",
        "a.elf -n 2 < input2",
        "/usr/bin/sort",
    ]
    assert len(campaign.cells) == 5 * 4 * 2 * 20


def test_plan_says_what_is_to_do(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = corpus(tmp_path, TWO, "good")
    run(["corpus", "run", str(file), "--shard", "1/4"])
    capfd.readouterr()
    assert run(["corpus", "plan", str(file), "--format", "json"]) == 0
    states = [row["state"] for row in json.loads(capfd.readouterr().out)]
    assert states == ["finished", "to do", "to do", "to do"]


def test_too_little_memory_for_a_worker_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = corpus(tmp_path, f'{SHORT}memory = "20M"', "good")
    assert run(["corpus", "run", str(file)]) == 3
    assert "limits.memory may be too small" in capfd.readouterr().err.splitlines()[-1]
