"""Real programs recorded and judged under 7.2's intent: no rule may find anything.

``python tests/differential/guard.py`` does it for every program of commands.toml and guarded.toml,
``NAME…`` for some. A program that only works on a real kernel would be no reason for a finding.
"""

from __future__ import annotations

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
from shstk.tracer.record import RecordOptions, record

GUARDED: Final = COMMANDS | {
    name: Command(**table)
    for name, table in tomllib.loads(Path(__file__).with_name("guarded.toml").read_text()).items()
}
_INSTRUCTIONS: Final = 400_000_000


def findings(command: Command, root: Path, work: Path) -> list[str]:
    """What the rules find in a command's run, a line each."""
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
            out=work / "guarded.run",
        )
    )
    assert result.path is not None
    rows = check(Run.open(result.path)).violated.select("rule", "seq", "tid", "note").rows()
    return [" ".join(map(str, row)) for row in rows]


def main() -> int:
    root, wrong = riscv_root(), 0
    for name in sys.argv[1:] or GUARDED:
        with tempfile.TemporaryDirectory() as work:
            found = findings(GUARDED[name], root, Path(work))
        print(f"{name}: {len(found) or 'no'} findings", *found[:5], sep="\n    ", flush=True)
        wrong += bool(found)
    print(f"{wrong} programs with findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
