"""Write every generated page of docs/: python tools/generate_docs.py [--check]

--check writes nothing and exits 1 if a page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import shstk.replay.reference
import shstk.replay.views.reference
import shstk.schemas.reference

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
PAGES: Final = {
    "schema.md": shstk.schemas.reference.markdown,
    "rules.md": shstk.replay.reference.markdown,
    "views.md": shstk.replay.views.reference.markdown,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [name for name, page in PAGES.items() if (DOCS / name).read_text() != page()]
    for name in stale:
        print(f"docs/{name}: {'out of date' if check else 'written'}")
        if not check:
            (DOCS / name).write_text(PAGES[name]())
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
