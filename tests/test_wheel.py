"""The wheel, installed in an empty venv beside other people's tracer, replay and schemas."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from fnmatch import filter as matching
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HOSTILE = ("tracer", "replay", "schemas")
ADDED_BY_PIP = {"INSTALLER", "REQUESTED", "direct_url.json"}
SHIPPED = (
    "shstk/py.typed",
    "shstk/guests/*.elf",
    "shstk/tracer/_core.pyi",
    "shstk/tracer/_core.*.so",
    "shstk/replay/_core.pyi",
    "shstk/replay/_core.*.so",
    "shstk-*.dist-info/licenses/LICENSE-*",
    "shstk-*.dist-info/licenses/tracer/core/fp/softfloat/COPYING.txt",
)


def is_editable(dist: Distribution) -> bool:
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def built(folder: Path) -> Path:
    """The wheel of this checkout; a second's work where the core is compiled already."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", f"--wheel-dir={folder}"]
    if importlib.util.find_spec("scikit_build_core"):
        options.append("--no-build-isolation")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True)
    (wheel,) = folder.glob("shstk-*.whl")
    return wheel


def repacked(dist: Distribution, folder: Path) -> Path:
    """The wheel that pip unpacked to install dist."""
    (tag,) = matching((dist.read_text("WHEEL") or "").splitlines(), "Tag: *")
    rows = {line.split(",")[0]: line for line in (dist.read_text("RECORD") or "").splitlines()}
    packed = {
        name: row
        for name, row in rows.items()
        if not name.startswith("..") and not name.endswith(".pyc")
        if Path(name).name not in ADDED_BY_PIP
    }
    wheel = folder / f"shstk-{dist.version}-{tag.removeprefix('Tag: ')}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in packed:
            if name.endswith("RECORD"):
                archive.writestr(name, "\n".join(packed.values()))
            else:
                archive.write(dist.locate_file(name), name)
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once: an installation that is not editable holds a wheel's files already."""
    folder = tmp_path_factory.mktemp("wheel")
    dist = distribution("shstk")
    return built(folder) if is_editable(dist) else repacked(dist, folder)


def dependencies(of: str) -> set[str]:
    """The distributions that `of` requires, and what they require."""
    required = [Requirement(line) for line in distribution(of).requires or []]
    here = {r.name for r in required if not r.marker or r.marker.evaluate({"extra": ""})}
    return here.union(*map(dependencies, here))


def make_hostile(folder: Path) -> None:
    for name in HOSTILE:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise ImportError('not our {name}')\n")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv's interpreter: it sees the wheel, what the wheel requires, and hostile packages."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    make_hostile(packages)
    # No index is needed: the dependencies are links to this environment's.
    for name in dependencies("shstk"):
        tops = {f.parts[0] for f in distribution(name).files or [] if f.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, f"--python={home / 'bin/python'}", "install", "--no-index", "--no-deps"]
    subprocess.run([*install, wheel], check=True)
    return home / "bin/python"


def test_only_shstk_is_installed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = distribution("shstk").version
    tops = {n.split("/")[0] for n in names} - {f"shstk-{version}.data"}  # the man pages
    assert tops == {"shstk", f"shstk-{version}.dist-info"}
    assert [n for n in names if n.startswith(("shstk/tracer/core/", "shstk/replay/core/"))] == []
    assert matching(names, "*.[ch]pp") + matching(names, "*.inc") == []


def test_the_man_pages_are_installed() -> None:
    names = [str(file) for file in distribution("shstk").files or []]
    assert matching(names, "*/share/man/man1/shstk-log.1")


@pytest.mark.parametrize("pattern", SHIPPED)
def test_the_wheel_has(wheel: Path, pattern: str) -> None:
    assert matching(zipfile.ZipFile(wheel).namelist(), pattern)


@pytest.mark.parametrize("command", ["kernels", "demo"])
def test_runs_among_hostile_packages(python: Path, command: str, tmp_path: Path) -> None:
    """`python -m` looks for modules in the current folder first."""
    make_hostile(tmp_path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for line in ([python, "-m", "shstk", command], [python.with_name("shstk"), command]):
        done = subprocess.run(line, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "7.2" in done.stdout


def test_the_sdist_has_what_the_repository_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what it builds is what CI builds of a clone. tools/both_ends.py builds it."""
    backend = pytest.importorskip("scikit_build_core.build")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / backend.build_sdist(str(tmp_path))) as archive:
        found = {
            member.name.partition("/")[2]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    assert "Name: shstk" in found.pop("PKG-INFO").decode()
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert found.keys() >= tracked
    assert all(found[name] == (ROOT / name).read_bytes() for name in tracked)


def test_the_lock_is_within_what_is_required() -> None:
    """.ci/lock.txt, with a line for each package that pyproject.toml names for CI."""
    lines = (ROOT / ".ci/lock.txt").read_text().replace("\\\n", " ").splitlines()
    locked = {
        name: version.split()[0] for name, at, version in (x.partition("==") for x in lines) if at
    }
    assert all("--hash=sha256:" in line for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    del extras["ray"]  # CI does not install it
    required = [*project["dependencies"], *chain(*extras.values())]
    for requirement in map(Requirement, required):
        if requirement.name != "shstk":
            assert requirement.specifier.contains(locked[requirement.name]), requirement
