"""Test both ends of what pyproject.toml allows: python tools/both_ends.py [PYTHON…] [-- PYTEST…]

For each interpreter (default: every python3.N on PATH that is allowed), shstk is built from its
sdist and tested twice: with the newest packages and the oldest. What follows -- goes to pytest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ("tests/rules/test_rules.py", "tests/cli", "tests/recorder", "tests/schemas")


def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def oldest(requirements: list[str]) -> list[str]:
    """The lowest version that each requirement allows, pinned."""
    return [re.sub(">=", "==", requirement) for requirement in requirements]


def interpreters() -> list[str]:
    first = int(re.search(r"3\.(\d+)", str(project()["requires-python"]))[1])  # type: ignore[index]
    found = (shutil.which(f"python3.{minor}") for minor in range(first, first + 8))
    return [python for python in found if python]


def run(*words: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(word) for word in words], cwd=cwd, check=True)


def main() -> None:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    pythons, tests = words[:at] or interpreters(), words[at + 1 :] or list(TESTS)
    failed = []
    for python in pythons:
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            run("git", "clone", "--quiet", ROOT, scratch / "shstk")
            run(python, "-m", "venv", scratch / "venv")
            pip = (scratch / "venv/bin/python", "-m", "pip", "--disable-pip-version-check")
            run(*pip, "install", "-q", "build")
            build = (scratch / "venv/bin/python", "-m", "build", "--sdist", "--wheel")
            run(*build, "--outdir", scratch / "dist", cwd=scratch / "shstk")
            wheel = next((scratch / "dist").glob("*.whl"))
            for end, pins in (("newest", []), ("oldest", oldest(project()["dependencies"]))):  # type: ignore[arg-type]
                print(f"== {python}, {end} packages", flush=True)
                run(*pip, "install", "-q", "--force-reinstall", f"{wheel}[test]", *pins)
                try:
                    run(scratch / "venv/bin/pytest", "-q", *tests, cwd=scratch / "shstk")
                except subprocess.CalledProcessError:
                    failed.append(f"{python}, {end}")
    print("failed: " + "; ".join(failed) if failed else "all pass")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
