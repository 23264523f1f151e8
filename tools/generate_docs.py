"""Write every generated page of docs/: python tools/generate_docs.py [--check]

--check writes nothing and exits 1 if a page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Final

import shstk.replay.reference
import shstk.replay.views.reference
import shstk.schemas.reference
from shstk.cli import manual

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
PAGES: Final = {
    "schema.md": shstk.schemas.reference.markdown,
    "rules.md": shstk.replay.reference.markdown,
    "views.md": shstk.replay.views.reference.markdown,
    "commands.md": manual.markdown,
    **{f"man/{name}": partial(str, page) for name, page in manual.man_pages().items()},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [name for name, page in PAGES.items() if _now(name) != page()]
    stale += [f"man/{p.name}" for p in DOCS.glob("man/*") if f"man/{p.name}" not in PAGES]
    for name in stale:
        print(f"docs/{name}: {'out of date' if check else 'written'}")
        if not check:
            _write(name)
    return 1 if check and stale else 0


def _now(name: str) -> str:
    path = DOCS / name
    return path.read_text() if path.exists() else ""


def _write(name: str) -> None:
    """A page, or nothing where a command is gone."""
    path = DOCS / name
    if name in PAGES:
        path.parent.mkdir(exist_ok=True)
        path.write_text(PAGES[name]())
    else:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
