from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import click

import shstk
from shstk.cli import matrix as matrix_command
from shstk.cli import stacks as stacks_command

KERNELS: Final = ("v3", "v6", "7.2")
HANDOFF: Final = "thread-starts-at-its-top"  # the rule whose finding under v3 is shown


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the program and its runs in DIR.",
)
def command(keep: Path | None) -> None:
    """Record a pthread program under v3, v6 and 7.2, and show what happens to its shadow stacks.

    v3 is the patch that introduced shadow stacks for threads, v6 the first to correct its test, 7.2
    a released kernel. The program prints the correct result under each of them.
    """
    from shstk.replay.verdict import finding_lines

    out = sys.stdout
    with tempfile.TemporaryDirectory(prefix="shstk-demo-") as scratch:
        runs = keep if keep is not None else Path(scratch)
        printed: dict[str, bytes] = dict.fromkeys(KERNELS, b"")

        def note(kernel: str, fd: int, data: bytes) -> None:
            printed[kernel] += data

        with as_file(files("shstk") / "guests" / "pthread.elf") as guest:
            reports = shstk.matrix(guest, kernels=KERNELS, keep=runs, on_output=note)
            if keep is not None:
                shutil.copy(guest, keep / "pthread.elf")

        out.write("pthread.elf creates four threads with its shadow stack on. It printed:\n\n")
        for kernel in KERNELS:
            out.write(f"  {kernel:<4} {printed[kernel].decode().strip()}\n")
        out.write(
            "\nThe correct result each time. The shadow stacks differ (findings x kernel):\n\n"
        )
        matrix_command.write_text({"pthread.elf": reports}, False, out)
        for kernel in KERNELS:
            out.write(f"\nThe shadow stacks under {kernel}:\n\n")
            stacks_command.write_text(shstk.stacks(runs / f"{kernel}.run"), out)
        handoff = next(r for r in reports["v3"].results if r.rule.slug == HANDOFF)
        rule, finding = handoff.rule, handoff.findings[0]
        out.write(
            f"\nOne finding under v3, with its evidence (the rule: shstk explain {rule.id}):\n\n"
        )
        out.write(f"{rule.id} {rule.slug}\n")
        out.write("\n".join(finding_lines(finding, handoff.doubtful)) + "\n")
        out.write(f"    source    {rule.source}\n")
    if keep is not None:
        out.write(f"\nThe runs are in {keep}: shstk log {keep}/v3.run, shstk check {keep}/v6.run\n")
