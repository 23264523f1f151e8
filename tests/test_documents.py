"""Links of the pages lead somewhere, and architecture.md's table names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("tracer", "replay", "schemas", "shstk")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "fixtures/README.md"])
SOURCES = (".py", ".cpp", ".hpp", ".inc", ".elf")
THIRD_PARTY = ROOT / "tracer/core/fp/softfloat"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def places() -> list[Path]:
    """The paths of the first column. What follows a row's first path may be short: from its folder,
    or from one above."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("## Where things are\n")[2]
    found: list[Path] = []
    for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]:
        bases = [ROOT]
        for name in re.findall(r"`([\w./*]*[./][\w./*]*)`", row):
            matches = next((m for base in bases if (m := list(base.glob(name)))), [])
            assert matches, f"architecture.md names {name}, which does not exist"
            found += matches
            if bases == [ROOT]:
                bases = [matches[0], *matches[0].parents]
    return found


def test_the_architecture_names_what_exists() -> None:
    assert places()


def test_the_architecture_names_every_folder() -> None:
    """By its own name, or by a file in it."""
    sources = [f for top in TOP for f in (ROOT / top).rglob("*") if f.suffix in SOURCES]
    folders = {f.parent for f in sources if not f.is_relative_to(THIRD_PARTY)}
    named = set(places())
    named |= {place.parent for place in named}
    assert sorted(str(f.relative_to(ROOT)) for f in folders - named) == []
