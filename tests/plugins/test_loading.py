"""--plugin: what it may say, and what is told where it can't be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shstk.__main__ import run
from shstk.plugins.loading import load
from shstk.schemas.errors import BadPlugin, ShstkError, UsageError

GUEST = str(Path(__file__).parents[2] / "fixtures/bin/signals.elf")
OWN = '''
from pathlib import Path
from shstk.plugin import Plugin, Syscall

class Own(Plugin):
    """My own."""

    def __init__(self, count: int, ratio: float = 0.5, on: bool = False, word: str = "w",
                 out: Path | None = None):
        self.given = (count, ratio, on, word, out)

class Fails(Plugin):
    def on_syscall(self, call: Syscall) -> None:
        raise ValueError("no such thing")

class Refuses(Plugin):
    def __init__(self):
        raise RuntimeError("not today")

class NoPlugin:
    pass
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    (tmp_path / "own_plugins.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def f(:\n")
    return "own_plugins.py"


def test_arguments_have_the_types_of_their_parameters(own: str) -> None:
    made = load(f"{own}:Own,count=0x10,ratio=2,on=yes,word=5,out=a/b,name=mine")
    assert made.given == (16, 2.0, True, "5", Path("a/b"))  # type: ignore[attr-defined]
    assert made.name == "mine"
    assert load("own_plugins:Own,count=1").name == "own"
    assert load("hot_blocks,top=3").name == "hot_blocks"


@pytest.mark.parametrize(
    ("spec", "kind", "what"),
    [
        ("hot_block", UsageError, "no plugin 'hot_block' comes with shstk"),
        ("hot_blocks,topp=3", UsageError, "has no argument topp"),
        ("hot_blocks,top", UsageError, "'top' is not key=value"),
        ("hot_blocks,top=many", UsageError, "top=many is not int"),
        ("own_plugins.py:Own,on=maybe,count=1", UsageError, "on=maybe is not bool"),
        ("own_plugins.py:Own", UsageError, "needs count="),
        ("own_plugins.py:Missing", BadPlugin, "has no class Missing\n.*Own, Fails, Refuses"),
        ("own_plugins.py:NoPlugin", BadPlugin, "is not a plugin"),
        ("own_plugins.py:Refuses", BadPlugin, "RuntimeError: not today"),
        ("nothing.py:Own", BadPlugin, "nothing.py: no such file"),
        ("nothing_there:Own", BadPlugin, "No module named 'nothing_there'"),
        ("broken.py:Own", BadPlugin, r"SyntaxError: .*broken\.py:1"),
    ],
)
def test_what_cannot_be(own: str, spec: str, kind: type[ShstkError], what: str) -> None:
    with pytest.raises(kind, match=what) as caught:
        load(spec)
    assert caught.value.exit == (2 if kind is UsageError else 3)


@pytest.mark.parametrize("command", ["record -o x.run", "exec"])
def test_a_failing_plugin_on_the_command_line(
    own: str, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--plugin", f"{own}:Fails", GUEST]) == 3
    err = capfd.readouterr().err
    assert "error: plugin fails failed in on_syscall (own_plugins.py:14): ValueError" in err
    assert "Traceback" not in err
    if "x.run" in command:
        assert json.loads(Path("x.run/manifest.json").read_text())["ending"] == "stopped"


def test_list(capfd: pytest.CaptureFixture[str], own: str) -> None:
    assert run(["plugins", "--format", "json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert rows[0]["name"] == "hot_blocks"
    assert run(["plugins", "coverage"]) == 0
    assert "lcov=FILE" in capfd.readouterr().out
    assert run(["plugins", f"{own}:Own"]) == 0
    assert capfd.readouterr().out == "My own.\n"


def test_replay_with_a_plugin(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["record", "-o", "x.run", GUEST]) == 0
    manifest = Path("x.run/manifest.json").read_bytes()
    capfd.readouterr()
    assert run(["replay", "x.run", "--plugin", "insn_mix,top=1"]) == 0
    out, err = capfd.readouterr()
    icount = json.loads(manifest)["icount"]
    assert "disagree" not in out
    assert err.startswith(f"insn_mix: {int(icount, 16)} instructions")
    assert Path("x.run/manifest.json").read_bytes() == manifest
    assert run(["replay", "x.run", "--plugin", f"{own}:Fails"]) == 3


def test_replay_of_a_run_that_a_plugin_stopped(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["record", "-o", "x.run", "--plugin", "ssp_watch", GUEST.replace("signals", "longjmp")])
        == 0
    )
    capfd.readouterr()
    assert run(["replay", "x.run"]) == 0
    assert run(["replay", "x.run", "--plugin", "hot_blocks,top=0"]) == 0
    assert "disagree" not in capfd.readouterr().out
