"""Build the documentation site into a folder: python tools/build_site.py OUT

Its pages are those of docs/, the README as the first page, and the notebook. A link that leads
nowhere fails the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT: Final = Path(__file__).resolve().parents[1]
# file of the repository -> page of the site; docs/*.md keep their names
_MOVED: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "fixtures/README.md": "fixtures.md",
    "docs/notebook.ipynb": "notebook.md",
}
_LINK: Final = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FENCE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def pages() -> dict[Path, str]:
    """file of the repository -> page of the site."""
    found = {ROOT / source: page for source, page in _MOVED.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        found[path] = str(path.relative_to(ROOT / "docs"))
    return found


def stage(docs: Path) -> None:
    made = pages()
    for source, page in made.items():
        text = _notebook(source) if source.suffix == ".ipynb" else source.read_text()
        target = docs / page
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = _FENCE.split(text)
        linked = [p if p.startswith("```") else _relinked(p, source, page, made) for p in parts]
        target.write_text("".join(linked))


def _relinked(text: str, source: Path, page: str, made: dict[Path, str]) -> str:
    """Links to pages as they are on the site; links to other files lead to no page: they go."""

    def link(found: re.Match[str]) -> str:
        path = (source.parent / found[1]).resolve()
        if path in made:
            return f"]({os.path.relpath(made[path], Path(page).parent)}{found[2] or ''})"
        return f"](repository:{path.relative_to(ROOT)})"

    marked = _LINK.sub(link, text)
    return re.sub(r"\[([^\]]*)\]\(repository:[^)]*\)", r"\1", marked)


def _notebook(path: Path) -> str:
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [_shown(output["data"]) for output in cell["outputs"] if "data" in output]
    return "\n\n".join(parts) + "\n"


def _shown(data: dict[str, Any]) -> str:
    html = "".join(data.get("text/html", ""))
    # Markdown ends a block of HTML at an empty line.
    lines = (line for line in html.splitlines() if line.strip())
    return f"<div>{' '.join(lines)}</div>" if html else f"```\n{''.join(data['text/plain'])}\n```"


def main() -> int:
    out = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder) / "docs"
        stage(docs)
        shutil.copy(ROOT / "mkdocs.yml", folder)
        config = load_config(f"{folder}/mkdocs.yml", site_dir=str(out), strict=True)
        build(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
