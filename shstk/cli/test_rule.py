from __future__ import annotations

from pathlib import Path

import click

from shstk.schemas.errors import Exit


@click.command()
@click.argument(
    "files", type=click.Path(path_type=Path), metavar="FILE.py...", nargs=-1, required=True
)
def command(files: tuple[Path, ...]) -> int:
    """Test rules of your own by the listing FILE.md beside FILE.py, as those of shstk are tested.

    Its runs must make the rule violated, satisfied and not evaluated, with exact places, and no
    other rule may report anything that the listing does not expect (docs/listing.md). Exit code 1
    if anything is amiss.
    """
    from shstk.listing.expected import problems
    from shstk.replay.rules.own import catalogue

    rules, clean = catalogue(files), True
    for path in files:
        slug = path.stem.replace("_", "-")
        rule = next(rule for rule in rules.values() if rule.slug == slug)
        found = list(problems(rule, path.with_suffix(".md"), rules))
        for problem in found:
            click.echo(f"{path}: {problem}")
        click.echo(f"{rule.id} {rule.slug}: {'fails' if found else 'ok'}")
        clean = clean and not found
    return Exit.OK if clean else Exit.FINDINGS
