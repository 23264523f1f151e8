"""The commands of the README and of the how-tos run as they are written, in order, in one folder,
and print what is shown. A block of TOML is the project's settings from there on."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shstk.__main__ import run
from shstk.schemas.errors import Exit

ROOT = Path(__file__).parents[1]
NOT_RUN = "<!-- not in tests/test_readme.py: "
FINDS = ("check", "diff", "explore", "matrix", "report")  # they exit with 1 if they find something
INSTALLS = ("python3", ".venv/bin/pip")


@dataclass
class Block:
    """A block of sh. shown: the lines of the block of text behind it, if there is one."""

    commands: list[list[str]]
    shown: list[str]
    runs: bool
    settings: str | None  # what the last block of TOML before it says


def blocks(page: str) -> Iterator[Block]:
    last: Block | None = None
    before, settings = "", None
    parts = re.split(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)
    for prose, kind, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
        before = prose[-300:]
        if kind == "sh":
            joined = body.replace("\\\n", " ").replace("&&", "\n")
            words = [shlex.split(line, comments=True) for line in joined.splitlines()]
            if last:
                yield last
            last = Block([w for w in words if w], [], NOT_RUN not in before, settings)
        elif kind == "toml":
            settings = body
        elif last and not last.shown:
            last.shown = body.splitlines()
    assert last
    yield last


@pytest.mark.parametrize(
    ("page", "at_least"),
    [("README.md", 21), ("docs/howto/ci.md", 5), ("docs/howto/judge-my-kernel.md", 3)],
)
def test_every_command(
    page: str,
    at_least: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", (tmp_path / "none").open("w+"))
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    if page != "README.md":  # it makes its program itself
        for name in ("tests", "prog"):
            shutil.copy(ROOT / "shstk/guests/pthread.elf", tmp_path / name)
    executed = 0
    for block in blocks(page):
        if not block.runs:
            continue
        if block.settings:
            (tmp_path / "shstk.toml").write_text(block.settings)
        printed = ""
        for command in block.commands:
            tool, *rest = command
            if tool == "cp":
                shutil.copy(*rest)
            elif tool not in INSTALLS:
                assert tool.removeprefix(".venv/bin/") == "shstk", command
                code = run(rest)
                out = capfd.readouterr()
                fine = (Exit.OK, Exit.FINDINGS) if rest[0] in FINDS else (Exit.OK,)
                assert code in fine, (command, code, out.err)
                printed += out.out
                executed += 1
        at = 0
        for line in filter(str.strip, block.shown):
            found = printed.find(line, at)
            assert found >= 0, f"{line!r} is not what {block.commands[-1]} prints:\n{printed}"
            at = found + len(line)
    assert executed >= at_least


@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="needs ziglang")
def test_my_first_program(tmp_path: Path) -> None:
    """Its blocks are a shell's. What they install is there, and it is not at .venv."""
    parts = re.split(
        r"^```(\w*)\n(.*?)^```$",
        (ROOT / "docs/howto/first-program.md").read_text(),
        flags=re.M | re.S,
    )
    kinds, texts = parts[1::3], parts[2::3]
    lines = "".join(
        text for kind, text in zip(kinds, texts, strict=True) if kind == "sh"
    ).splitlines()
    script = "\n".join(line for line in lines if not line.startswith((*INSTALLS, "export PATH=")))
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(hello.c:9)" in done.stdout  # a line of the log
    for kind, text in zip(kinds, texts, strict=True):
        assert kind == "sh" or text.strip() in done.stdout
