"""What an installation of shstk is made of, as CycloneDX: python tools/sbom.py -o shstk.cdx.json

The packages are those of .ci/lock.txt that shstk requires at run time, extras too, with their
hashes. Needs cyclonedx-bom from PyPI.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shstk.schemas.version import VERSION

ROOT = Path(__file__).parents[1]
EXTRAS = ("report", "timeline")
SOFTFLOAT = {
    "type": "library",
    "bom-ref": "berkeley-softfloat-3",
    "name": "berkeley-softfloat-3",
    "version": "3e",
    "description": "a part of it is in tracer/core/fp/softfloat",
    "licenses": [{"license": {"id": "BSD-3-Clause"}}],
    "purl": "pkg:github/ucb-bar/berkeley-softfloat-3",
}


def needed(requirements: Iterable[str]) -> Iterator[str]:
    """The names of these packages and of all that they require, here where they are installed."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield canonicalize_name(requirement.name)
        try:
            yield from needed(requires(requirement.name) or ())
        except PackageNotFoundError:
            sys.exit(f"{requirement.name} is not installed: pip install -e '.[dev]'")


def locked(names: set[str]) -> str:
    """The entries of the lock for these packages."""
    text = (ROOT / ".ci/lock.txt").read_text().replace("\\\n", " ")
    entries = {line.partition("==")[0]: line for line in text.splitlines() if "==" in line}
    return "\n".join(entries[name] for name in sorted(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in EXTRAS:
        asked += project["optional-dependencies"][extra]
    # It warns that nothing depends on anything, which is added below.
    words = [sys.executable, "-P", "-W", "ignore", "-m", "cyclonedx_py", "requirements", "-"]
    words += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON"]
    done = subprocess.run(
        words, input=locked(set(needed(asked))), stdout=subprocess.PIPE, text=True, check=True
    )
    bom = json.loads(done.stdout)
    for component in bom["components"]:
        del component["description"]  # the line of the lock again
    bom["components"].append(SOFTFLOAT)
    bom["metadata"]["component"]["version"] = VERSION
    references = [component["bom-ref"] for component in bom["components"]]
    bom["dependencies"] = [{"ref": "root-component", "dependsOn": references}]
    options.out.write_text(json.dumps(bom, indent=1) + "\n")


if __name__ == "__main__":
    main()
