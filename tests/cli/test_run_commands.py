"""build, info, export, recover: what a user sees."""

import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from shstk.cli import cli
from shstk.replay.run import Run
from shstk.schemas.errors import ShstkError
from shstk.schemas.manifest import NAME as MANIFEST_NAME
from shstk.schemas.revisions import resolve
from shstk.schemas.tables import TABLES

LISTING = """
```run first
kernel v4
rlimit STACK=8M NPROC=10:20
t1 boot
10 t1 prctl(PR_SET_SHADOW_STACK_STATUS, 1) = 0 ssp_exit=0xffff_ffff_ffff_f000
11 t1 sspush 0x10234
12 t1 output 1 "a,\\n"
13 t1 exit_group(3) { exit_begin 0x300; mm_dropped 0 }
```
```run second
t1 boot
```
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text(LISTING)
    return tmp_path


def shstk(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments))
    if isinstance(result.exception, ShstkError):
        return result
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_build(here: Path) -> None:
    assert shstk("build", "a.md", "--run", "first").exit_code == 0
    assert len(Run.open(here / "first.run").table("cfi")) == 1
    assert "already exists" in str(shstk("build", "a.md", "--run", "first").exception)
    assert shstk("build", "a.md", "--run", "second", "-o", "first.run", "--force").exit_code == 0
    assert Run.open(here / "first.run").table("cfi").is_empty()
    assert "it has several runs" in str(shstk("build", "a.md").exception)


def test_info(here: Path) -> None:
    shstk("build", "a.md", "--run", "first", "-o", "a.run")
    result = shstk("info", "a.run")
    settings = resolve("v4").settings
    switches = "".join(f"{'':13}{name}={setting}\n" for name, setting in settings.items())
    assert result.stdout == (
        f"""\
program      /listing  (listing)
kernel       v4, numbers merged
{switches}cpu          rv64gc_zicfiss_zicfilp
seed         0
memory       unlimited
rlimits      STACK=8M:infinity NPROC=10:20
traced       cfi
ended        exited after 13 instructions, exit code 3
recorded by  shstk 0.2.0, schema 5

"""
        + result.stdout[result.stdout.index("table ") :]
    )
    rows = [line.split() for line in result.stdout.splitlines()[-6:]]
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        ("table", "rows", "first", "last"),
        ("task_events", "4", "0.1", "13.3"),
        ("mms", "1", "0.2", "0.2"),
        ("syscalls", "2", "10.1", "13.1"),
        ("cfi", "1", "11.0", "11.0"),
        ("output", "1", "12.1", "12.1"),
    ]
    assert (
        shstk("info", "a.run", "--format", "json").stdout
        == (here / "a.run" / MANIFEST_NAME).read_text()
    )


def test_info_of_a_damaged_run(here: Path) -> None:
    shstk("build", "a.md", "--run", "first", "-o", "a.run")
    with (here / "a.run" / "cfi.parquet").open("r+b") as file:
        file.seek(100)
        file.write(b"!")
    assert "cfi.parquet is not what was recorded" in str(shstk("info", "a.run").exception)
    assert "exit code 3" in shstk("info", "a.run", "--no-verify").stdout


def test_export(here: Path) -> None:
    shstk("build", "a.md", "--run", "first", "-o", "a.run")
    for format in ("arrow", "parquet", "csv"):
        assert shstk("export", "a.run", "--format", format).exit_code == 0
        files = {file.name for file in (here / f"a.{format}").iterdir()}
        assert files == {f"{name}.{format}" for name in TABLES}
    run = Run.open(here / "a.run")
    for name in TABLES:
        assert pl.read_parquet(f"a.parquet/{name}.parquet").equals(run.table(name))
        with pa.ipc.open_file(f"a.arrow/{name}.arrow") as opened:
            table = opened.read_all()
            assert table.schema.field("seq").metadata
        assert pl.DataFrame(table).equals(run.table(name))
    assert (here / "a.csv" / "cfi.csv").read_text().splitlines() == [
        "seq,tid,mm,pc,kind,addr,value,operand,ssp_before,ssp_after,fault",
        "11.0,1,1,0x10000,sspush,0xffffffffffffeff8,0x10234,,0xfffffffffffff000,0xffffffffffffeff8,",
    ]
    assert (here / "a.csv" / "output.csv").read_text().splitlines()[1] == "12.1,1,1,1,612c0a"
    assert "already exists" in str(shstk("export", "a.run", "--format", "csv").exception)
    assert shstk("export", "a.run", "--format", "csv", "--force").exit_code == 0
    (here / "a.csv" / "notes").write_text("mine")
    refused = str(shstk("export", "a.run", "--format", "csv", "--force").exception)
    assert "a.csv is not what this command wrote" in refused
    assert (here / "a.csv" / "notes").read_text() == "mine"
    shutil.rmtree("a.csv")
    Path("a.csv").write_text("mine")
    refused = str(shstk("export", "a.run", "--format", "csv", "--force").exception)
    assert "a.csv is not what this command wrote" in refused
    assert Path("a.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        "log a.run --around",
        "stacks a.run --at",
        "stacks a.run 0x1000 --at",
        "replay a.run --until",
    ],
)
def test_a_position_past_the_end(here: Path, command: str) -> None:
    shstk("build", "a.md", "--run", "first", "-o", "a.run")
    error = shstk(*command.split(), "14.0").exception
    assert str(error) == f"{command.split()[-1]} 14.0: the run ends at 13.0"


def test_recover(here: Path) -> None:
    shstk("build", "a.md", "--run", "first", "-o", "a.run")
    assert "a.run is already complete" in str(shstk("recover", "a.run").exception)
    (here / "a.run").rename(here / "a.run.partial")
    result = shstk("recover", "a.run.partial")
    assert result.stderr == "recovered a.run: 9 rows, all of it\n"
    manifest = json.loads((here / "a.run" / MANIFEST_NAME).read_text())
    assert manifest["ending"] == "exited"
