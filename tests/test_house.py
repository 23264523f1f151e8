"""What the design says must hold of the house itself: arrows, weight, one name for one thing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import schemas

ROOT = Path(schemas.__file__).parents[1]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "tracer": {"tracer", "schemas"},
    "replay": {"replay", "schemas"},
    "shstk": {"shstk", "tracer", "replay", "schemas"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top not in MAY_IMPORT or top in MAY_IMPORT[package], f"{file} imports {name}"


@pytest.mark.parametrize("arguments", [["--help"], ["record", "--help"], ["kernels"]])
def test_light_commands_load_neither_polars_nor_pyarrow(arguments: list[str]) -> None:
    script = (
        "import sys; from shstk.__main__ import run; code = run(sys.argv[1:]);"
        "heavy = {'polars', 'pyarrow'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)
