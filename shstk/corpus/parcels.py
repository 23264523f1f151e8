"""Files and trees that travel to another machine, each named by a digest of what is in it."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shstk.corpus.contents import digest
from shstk.corpus.execute import Job


@dataclass(frozen=True)
class Parcel:
    """id: a digest of the contents and of the name. name: of the file or tree. Guests see it."""

    id: str
    name: str


def parcel(path: Path) -> Parcel:
    """Raises OSError."""
    whole = hashlib.sha256(f"{path.name}\0{digest(path)}".encode(errors="replace"))
    return Parcel(whole.hexdigest(), path.name)


def packed(path: Path) -> bytes:
    """A file or tree as a tar. Raises OSError."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(path, arcname=path.name)
    return out.getvalue()


def unpacked(data: bytes, folder: Path) -> None:
    """Put a tar's file or tree into a folder. Raises OSError."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        # It is our own: a root has absolute links, which the other filters refuse.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(folder)


def arrived(one: Parcel, folder: Path, fetch: Callable[[], bytes]) -> Path:
    """The parcel's place in a folder, which several processes share. It is fetched at most once."""
    place = folder / one.id
    if not place.exists():
        aside = Path(tempfile.mkdtemp(dir=folder))
        try:
            unpacked(fetch(), aside)
            aside.rename(place)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not place.exists():  # else another process was faster
                raise
    return place / one.name


def paths(job: Job) -> list[Path]:
    """What a job reads of its host."""
    subject = job.cell.subject
    named = [subject.root or subject.program, *(host for host, _ in subject.binds)]
    named += [subject.stdin] if subject.stdin else []
    named += [path for path in job.cell.image.paths if path] if job.cell.image else []
    kept = [job.kept] if job.kept else []
    return [*map(Path, named), *job.cell.judging.rules_from, *kept]


def moved(job: Job, places: Mapping[Path, Path]) -> Job:
    """The same job, whose files are in other places."""

    def there(path: str) -> str:
        return str(places[Path(path)])

    cell, subject = job.cell, job.cell.subject
    judging = cell.judging
    subject = replace(
        subject,
        program=subject.program if subject.root else there(subject.program),
        stdin=there(subject.stdin) if subject.stdin else None,
        root=there(subject.root) if subject.root else None,
        binds=tuple((there(host), guest) for host, guest in subject.binds),
    )
    judging = replace(judging, rules_from=tuple(places[file] for file in judging.rules_from))
    return replace(
        job,
        cell=replace(
            cell,
            subject=subject,
            judging=judging,
            image=cell.image.moved(there) if cell.image else None,
        ),
        kept=places[job.kept] if job.kept else None,
    )
