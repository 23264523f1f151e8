"""What must hold of the house itself: which way imports point, and how heavy a command is."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from imports import circles, imports, modules

from shstk.cli import COMMANDS, module_of
from shstk.tracer.kernel.call import Call
from shstk.tracer.kernel.table import CALLS as TABLE

MODULES = modules()
IMPORTS = imports(MODULES)
MAY_IMPORT = {
    "schemas": {"schemas"},
    "tracer": {"tracer", "schemas"},
    "replay": {"replay", "schemas"},
    "shstk": {"shstk", "tracer", "replay", "schemas"},
}


def part(module: str) -> str:
    """shstk.tracer.kernel -> tracer, shstk.cli.check -> shstk."""
    second = [*module.split("."), ""][1]
    return second if second in MAY_IMPORT else "shstk"


@pytest.mark.parametrize("importer", MAY_IMPORT)
def test_arrows_point_one_way(importer: str) -> None:
    arrows = [i for i in IMPORTS if part(i.importer) == importer]
    assert arrows
    assert [i for i in arrows if part(i.imported) not in MAY_IMPORT[importer]] == []


def test_no_circle_of_imports_at_run_time() -> None:
    """An import inside a function counts: it would only hide the circle."""
    arrows = [(i.importer, i.imported) for i in IMPORTS if i.when != "types"]
    assert circles(arrows) == []


def test_the_kernel_model_imports_at_the_top_of_its_files() -> None:
    hidden = [i for i in IMPORTS if i.when == "call" and "tracer.kernel." in i.importer]
    assert hidden == []


def test_every_call_of_the_kernel_model_is_in_its_table() -> None:
    """A folder's calls.py has to name the module that has them."""
    modules = [import_module(name) for name in MODULES if "tracer.kernel." in name]
    rows = {row for module in modules for row in getattr(module, "CALLS", ())}
    assert {row for row in rows if isinstance(row, Call)} == set(TABLE.values())


def test_every_import_says_the_installed_name() -> None:
    """`import tracer` would work in a checkout and nowhere else."""
    for name, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in named} & (set(MAY_IMPORT) - {"shstk"}), name


GUEST = str(Path(__file__).parents[1] / "fixtures/bin/sc1.elf")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["record", "--help"], ["kernels"], ["exec", GUEST]]
)
def test_light_commands_load_neither_polars_nor_pyarrow(arguments: list[str]) -> None:
    loads_nothing_heavy(f"from shstk.__main__ import run; assert run({arguments}) == 0")


def test_help_loads_nothing_of_the_tracer() -> None:
    loads_none_of({"shstk.tracer"}, "from shstk.__main__ import run; assert run(['--help']) == 0")


def test_what_recording_and_judging_load(tmp_path: Path) -> None:
    """Of pyarrow only what they use: its functions are made when pyarrow.compute is loaded."""
    out = str(tmp_path / "hello.run")
    script = "from shstk.__main__ import run; assert run({}) == 0"
    slow = {"pyarrow.compute", "pyarrow.dataset", "pyarrow.fs"}
    recording = {"polars", "elftools", "shstk.replay"} | slow
    loads_none_of(recording, script.format(["record", "-o", out, GUEST]))
    # The first `log` executes the run again.
    subprocess.run([sys.executable, "-P", "-m", "shstk", "log", out], check=True)
    for command in ("check", "log", "stacks"):
        loads_none_of({"shstk.tracer.kernel"} | slow, script.format([command, out]))
    loads_none_of(slow, script.format(["replay", out]))
    for command in ("log", "stacks"):
        rules = {"shstk.replay.rules.own", "shstk.replay.rules.one_pusher_a_stack"}
        loads_none_of(rules, script.format([command, out]))


def test_no_command_loads_them_before_it_runs() -> None:
    """So that every --help, and completion, is there at once."""
    modules = [module_of(name) for name in COMMANDS]
    loads_nothing_heavy(f"import shstk, {', '.join(modules)}")


def loads_nothing_heavy(script: str) -> None:
    loads_none_of({"polars", "pyarrow", "elftools"}, script)


def loads_none_of(modules: set[str], script: str) -> None:
    script += f"\nimport sys; assert not {modules} & set(sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", script], check=True, capture_output=True)
