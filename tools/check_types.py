"""mypy over the package as it is installed: python tools/check_types.py [MYPY OPTION...]

The repository's folders tracer/, replay/ and schemas/ are installed inside shstk/ (pyproject.toml,
scikit-build.wheel.packages). mypy knows no such mapping, so it is shown a folder of links.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    config = ROOT / "pyproject.toml"
    packages = tomllib.loads(config.read_text())["tool"]["scikit-build"]["wheel"]["packages"]
    with tempfile.TemporaryDirectory() as folder:
        for installed, source in packages.items():
            place = Path(folder) / installed
            place.mkdir()
            for entry in (ROOT / source).iterdir():
                (place / entry.name).symlink_to(entry)
        mypy = [sys.executable, "-m", "mypy", "--config-file", config]
        cache = ["--cache-dir", ROOT / ".mypy_cache"]
        return subprocess.run([*mypy, *cache, *sys.argv[1:]], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
