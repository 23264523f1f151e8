"""docs/plugins.md: its example is a file, the file runs, and what it prints is what it says."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run
from shstk.plugins import SHIPPED
from shstk.plugins.loading import arguments, find
from shstk.tracer.plugins import interface

DOCS = Path(__file__).parents[2] / "docs"
GUEST = Path(__file__).parents[2] / "fixtures/bin/processes.elf"
TEXT = (DOCS / "plugins.md").read_text()


def test_the_example_is_the_file() -> None:
    assert f"```python\n{(DOCS / 'plugins/path_guard.py').read_text()}```" in TEXT


def test_the_example_prints_what_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    (tmp_path / "path_guard.py").write_text((DOCS / "plugins/path_guard.py").read_text())
    (tmp_path / "processes.elf").symlink_to(GUEST)
    (shown,) = re.findall(r"```\n(\$ shstk record.*?)```", TEXT, re.DOTALL)
    for command in re.findall(r"^\$ shstk (.*)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE):
        line, expected = command
        assert run([*shlex.split(line)]) == 0
        out, err = capfd.readouterr()
        assert out + err == expected


def test_the_example_stops_a_run(tmp_path: Path) -> None:
    spec = f"{DOCS}/plugins/path_guard.py:PathGuard,forbid=/proc,name=guard"
    result = shstk.record(GUEST, out=tmp_path / "run", plugins=[spec])
    assert result.ending == "stopped"
    assert result.warnings == ("plugin guard stopped the run: task 102 opens /proc/self/exe",)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_plugin_stands_there(name: str) -> None:
    cls = find(name)
    title = (inspect.getdoc(cls) or "").splitlines()[0]
    keys = ", ".join(f"`{key}=`" for key in arguments(cls))
    assert f"| `{name}` | {title} | {keys} |" in TEXT


def test_everything_of_the_interface_stands_there() -> None:
    public = [n for n in vars(interface.Plugin) if not n.startswith("_")]
    public += [f"guest.{n}" for n in vars(interface.View) if not n.startswith("_")]
    for name in public:
        assert f"`{name}" in TEXT or f"`self.{name}" in TEXT, name
    for event in (interface.Syscall, interface.Fault, interface.Module):
        for field in event.__dataclass_fields__:
            assert re.search(rf"\b{field}\b", TEXT), field
