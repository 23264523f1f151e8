"""Writing a file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shstk.schemas.errors import CannotWrite, OutputExists


@contextmanager
def whole_file(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name when all of it is written.

    Raises OutputExists if there is one (without force), and CannotWrite.
    """
    if path.exists() and not force:
        raise OutputExists(f"{path} already exists", "choose another with -o, or use --force")
    partial = path.with_name(f"{path.name}.partial")
    try:
        try:
            with partial.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotWrite(f"cannot write to {path}: {error.strerror or error}") from error
