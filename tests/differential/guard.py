"""Real programs recorded and judged under 7.2's intent: no rule may find anything.

``python tests/differential/guard.py`` does it for every program of commands.toml and guarded.toml,
``--campaign`` for those of campaign.toml too (half an hour and more), ``NAME…`` for some. A program
that does not work here would be no reason for a finding.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from both import COMMANDS, ENVIRONMENT, Command, lay_out
from riscv_root import riscv_root

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.tables import DERIVABLE
from shstk.tracer.record import RecordOptions, RecordResult, record


def _commands(file: str) -> dict[str, Command]:
    tables = tomllib.loads(Path(__file__).with_name(file).read_text())
    return {name: Command(**table) for name, table in tables.items()}


GUARDED: Final = COMMANDS | _commands("guarded.toml")
CAMPAIGN: Final = _commands("campaign.toml")
_INSTRUCTIONS: Final = 400_000_000


def findings(command: Command, root: Path, work: Path) -> list[str]:
    """What the rules find in a command's run, a line each."""
    return judged(command, root, work)[1]


def judged(command: Command, root: Path, work: Path) -> tuple[RecordResult, list[str]]:
    lay_out(command, work / "files")
    result = record(
        RecordOptions(
            program=f"/usr/bin/{command.run[0]}",
            argv=tuple(command.run[1:]),
            root=root,
            binds=((work / "files", "/work", True),),
            cwd="/work",
            env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"},
            stdin=command.stdin.encode(),
            max_instructions=_INSTRUCTIONS,
            trace=frozenset(DERIVABLE),
            out=work / "guarded.run",
        )
    )
    assert result.path is not None
    rows = check(Run.open(result.path)).violated.select("rule", "seq", "tid", "note").rows()
    return result, [" ".join(map(str, row)) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="programs, such as perl-recursion")
    parser.add_argument("--campaign", action="store_true", help="those of campaign.toml too")
    options = parser.parse_args()
    every = GUARDED | CAMPAIGN
    chosen = options.names or [*GUARDED, *(CAMPAIGN if options.campaign else ())]
    wrong = 0
    for name in chosen:
        root = riscv_root(large=name in CAMPAIGN)
        with tempfile.TemporaryDirectory() as work:
            result, found = judged(every[name], root, Path(work))
        ran = f"{result.describe()}, {result.icount} instructions"
        print(f"{name}: {ran}: {len(found)} findings", *found[:5], sep="\n    ", flush=True)
        wrong += bool(found)
    print(f"{wrong} programs with findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
