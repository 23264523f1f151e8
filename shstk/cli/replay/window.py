"""--trace and --window: show the instructions of a part of the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shstk.cli.terminal import Progress
from shstk.replay.run import Run
from shstk.rerun import window
from shstk.schemas import seq as positions
from shstk.schemas.errors import CannotWrite, Exit, OutputExists, UsageError


def show(
    run: Run,
    table: str,
    part: tuple[int, int] | None,
    kernel: str | None,
    output: Path | None,
    force: bool,
    tier: str,
    format: str,
) -> int:
    first, last = part or (0, run.manifest.icount * positions.STEPS)
    if kernel is None:
        run.must_reach(first, f"--window {positions.show(first)}..")
    progress = Progress()
    frames = window.window(
        run, first, last, table=table, kernel=kernel, tier=tier, on_progress=progress
    )
    by_name = output.suffix[1:] if output and format == "text" else format
    wanted = by_name if by_name in ("json", "csv", "arrow") else format
    if output is None and wanted == "arrow":
        raise UsageError("--format arrow needs a file", "name it with -o FILE.arrow")
    with _opened(output, wanted, force) as out:
        window.write(frames, table, wanted, out)
    progress.clear()
    return Exit.OK


@contextmanager
def _opened(path: Path | None, format: str, force: bool) -> Iterator[IO[Any]]:
    """Raises CannotWrite."""
    if path is None:
        yield sys.stdout
        return
    binary = format == "arrow"
    mode = ("w" if force else "x") + ("b" if binary else "")
    try:
        with path.open(mode, encoding=None if binary else "utf-8") as out:
            yield out
    except FileExistsError:
        raise OutputExists(
            f"{path} already exists", "choose another with -o, or use --force"
        ) from None
    except OSError as error:
        raise CannotWrite(f"cannot write to {path}: {error.strerror or error}") from error
