"""Tests of replay with its C++ under sanitizers: python tests/replay/sanitized_core.py [TEST...]

shstk.replay._core is compiled with those for addresses and undefined behaviour, in 20 s, and tests
run with that: those of TEST, or all of this folder. The installed one stays as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/sanitized"
NAME = "shstk.replay._core"


def load() -> None:
    """Instead of the installed one. pytest does this: the file is its plugin, too."""
    [built] = (BUILD / "replay").glob("_core.*")
    loader = ExtensionFileLoader(NAME, str(built))
    spec = spec_from_loader(NAME, loader)
    assert spec
    sys.modules[NAME] = module_from_spec(spec)
    loader.exec_module(sys.modules[NAME])


def build() -> None:
    python = f"-DPython_EXECUTABLE={sys.executable}"
    here = ("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DSHSTK_SANITIZE=ON", python)
    subprocess.run(here, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(("cmake", "--build", BUILD, "-t", "replay_core"), check=True)


def main() -> None:
    build()
    names = ("libasan.so", "libubsan.so")
    found = [
        subprocess.check_output(("gcc", f"-print-file-name={name}"), text=True) for name in names
    ]
    os.environ |= {"LD_PRELOAD": " ".join(map(str.strip, found)), "ASAN_OPTIONS": "detect_leaks=0"}
    tests = sys.argv[1:] or [str(ROOT / "tests/replay")]
    plugin = ("-p", Path(__file__).stem, "-p", "no:cacheprovider")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(sys.executable, (sys.executable, "-P", "-m", "pytest", *plugin, *tests))


if __name__ == "__main__":
    main()
else:
    load()
