"""Write the files that plugins' arguments name."""

from __future__ import annotations

from pathlib import Path

from shstk.schemas.errors import CannotWrite


def write(path: Path, data: bytes) -> None:
    """Raises CannotWrite."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
