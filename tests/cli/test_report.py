"""The page on runs: one file, whose links lead somewhere, and a browser opens what they name."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import shstk
from shstk.cli import cli
from shstk.schemas.errors import Exit, OutputExists

GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
BROWSER = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--dump-dom"),
)


class Page(HTMLParser):
    """ids and links of a page, and its elements by tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.elements: dict[str, list[dict[str, str | None]]] = {}
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.elements.setdefault(tag, []).append(told)
        if told.get("id"):
            self.ids.append(str(told["id"]))
        for name in ("href", "src"):
            value = told.get(name)
            if value is not None:
                (self.links if value.startswith("#") else self.outside).append(value)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [folder / f"{kernel}.run" for kernel in ("v3", "v6", "7.2")]
    for run in runs:
        shstk.record(GUEST, out=run, kernel=run.stem)
    result = invoke("report", *map(str, runs), "-o", str(folder / "report.html"))
    assert result.return_value == Exit.FINDINGS  # v3 and v6 have findings
    return folder / "report.html"


def test_it_is_one_file_whose_links_lead_somewhere(report: Path) -> None:
    page = Page(report)
    assert page.outside == []
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "url(http" not in report.read_text()


def test_it_begins_with_the_matrix(report: Path) -> None:
    words = re.sub(r"\s+", " ", Page(report).text)
    assert "A5 thread-gets-own-stack 4 ok (4) ok (4)" in words
    assert "X1 exit-releases-once 1 5 ok (5)" in words
    assert "13 findings, 2 causes 5 findings, 1 cause no finding" in words


def drawn(page: Path, run: str) -> dict[str, int]:
    """How many shapes of each kind are in the picture of a run."""
    _, _, rest = page.read_text().partition(f'<section id="{run}"')
    section, _, _ = rest.partition("</section>")
    kinds = re.findall(r'<rect class="(\w+) k\d"', section)
    return {kind: kinds.count(kind) for kind in kinds}


def test_the_picture_shows_threads_on_one_stack_and_leaks(report: Path) -> None:
    """Under v3 four threads are guests on the one stack; under v6 each of five stacks leaks."""
    assert drawn(report, "r1") == {"task": 5, "stack": 1, "leak": 1, "stay": 1, "guest": 4}
    assert drawn(report, "r2") == {"task": 5, "stack": 5, "leak": 5, "stay": 5}
    assert drawn(report, "r3") == {"task": 5, "stack": 5, "stay": 5}


def test_every_finding_is_marked_and_has_its_log(report: Path) -> None:
    page = Page(report)
    findings = [id for id in page.ids if re.fullmatch(r"r\d-[A-Z]+\d+-\d+", id)]
    assert len(findings) == 13 + 5
    assert set(findings) <= {link[1:] for link in page.links}
    assert "created by 100" in page.text


def test_two_reports_have_the_same_bytes(report: Path, tmp_path: Path) -> None:
    runs = [str(report.parent / f"{kernel}.run") for kernel in ("v3", "v6", "7.2")]
    assert invoke("report", *runs, "-o", str(tmp_path / "again.html")).return_value == Exit.FINDINGS
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()
    assert isinstance(invoke("report", *runs, "-o", str(report)).exception, OutputExists)


def test_what_a_guest_names_is_text(tmp_path: Path) -> None:
    program = tmp_path / "<script>alert(1)<"
    shutil.copy(FIXTURES / "longjmp.elf", program)
    shstk.record(program, "<b>&amp;", out=tmp_path / "a.run")
    assert (
        invoke("report", str(tmp_path / "a.run"), "-o", str(tmp_path / "a.html")).return_value
        == Exit.OK
    )
    page = Page(tmp_path / "a.html")
    assert len(page.elements["script"]) == 1
    assert "b" not in page.elements
    assert "<b>&amp;" in page.text


def test_a_fault_that_ended_the_run_is_explained(tmp_path: Path) -> None:
    program = FIXTURES / "taking-turns.elf"
    shstk.record(program, out=tmp_path / "a.run", kernel="v3")
    invoke("report", str(tmp_path / "a.run"), "-o", str(tmp_path / "a.html"))
    page = Page(tmp_path / "a.html")
    assert "r1-fault" in page.ids
    assert "likely cause: two tasks push on one shadow stack" in page.text
    assert page.links.count("#r1-fault") == 2  # the mark in the picture, and the cause


def test_a_death_is_said_first(tmp_path: Path) -> None:
    """A program that was killed is no success, whether or not a rule has something to say."""
    shstk.record(FIXTURES / "faulty.elf", "smashed", out=tmp_path / "dead.run")
    shstk.record(GUEST, out=tmp_path / "well.run")
    runs = [str(tmp_path / "dead.run"), str(tmp_path / "well.run")]
    invoke("report", *runs, "-o", str(tmp_path / "a.html"))
    words = re.sub(r"\s+", " ", Page(tmp_path / "a.html").text)
    assert "died SIGSEGV exited all rules SIGSEGV, no finding no finding" in words
    assert "dead.run: SIGSEGV, no finding" in words
    assert "ended SIGSEGV (SEGV_CPERR) at " in words
    assert '<span class="bad">SIGSEGV, no finding' in (tmp_path / "a.html").read_text()


def test_what_follows_from_a_finding_is_within_it(report: Path) -> None:
    """Under v3 each thread that got no stack starts and pushes on its parent's."""
    words = re.sub(r"\s+", " ", Page(report).text)
    assert "Leads to A7 thread-starts-at-its-top (4×), I3 one-pusher-a-stack (4×)." in words
    after_a5 = report.read_text().partition('<details id="r1-A5-1">')[2]
    within = after_a5.partition('<details id="r1-A5-2">')[0]
    assert re.findall(r'<details id="(.*?)">', within) == ["r1-A7-1", "r1-I3-1"]


@pytest.mark.parametrize(
    ("link", "opened", "closed"),
    [("r2-X1-2", ["r2-X1-2"], "r2-X1-1"), ("r1-I3-1", ["r1-A5-1", "r1-I3-1"], "r1-A7-1")],
)
def test_a_browser_opens_what_a_link_names(
    report: Path, tmp_path: Path, link: str, opened: list[str], closed: str
) -> None:
    if not shutil.which("chromium"):
        pytest.skip("no chromium on PATH: apt install chromium")
    where = f"{report.as_uri()}#{link}"
    done = subprocess.run(
        [*BROWSER, f"--user-data-dir={tmp_path}", where],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert re.findall(r'<details id="(\S+)" open', done.stdout) == opened
    assert f'<details id="{closed}">' in done.stdout


def test_it_says_which_real_kernel_it_was(tmp_path: Path) -> None:
    events = Path(__file__).parents[1] / "realkernel" / "events" / "sc2.zst"
    shstk.import_qemu(events, tmp_path / "a.run")
    invoke("report", str(tmp_path / "a.run"), "-o", str(tmp_path / "a.html"))
    words = re.sub(r"\s+", " ", Page(tmp_path / "a.html").text)
    assert "recorded by" in words
    assert "Linux version 7.2" in words
    assert "seed" not in words.partition("Tasks and shadow stacks")[0]


def test_the_picture_shows_a_stack_that_was_taken_away(tmp_path: Path) -> None:
    """An io_uring worker of a real 7.2 unmaps its creator's stack."""
    events = Path(__file__).parents[1] / "realkernel" / "events" / "sc8.zst"
    shstk.import_qemu(events, tmp_path / "a.run")
    invoke("report", str(tmp_path / "a.run"), "-o", str(tmp_path / "a.html"))
    assert drawn(tmp_path / "a.html", "r1") == {"task": 3, "missing": 1, "stack": 1, "stay": 1}
