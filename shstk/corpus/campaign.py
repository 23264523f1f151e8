"""CORPUS.toml: which programs run under which kernels, with which seeds, within which limits."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

from shstk.corpus.cell import Cell, Subject
from shstk.corpus.contents import contents, contents_of_image
from shstk.corpus.image import Image, check, find_firmware
from shstk.replay.check import chosen
from shstk.replay.rules.own import catalogue
from shstk.schemas.errors import UsageError
from shstk.schemas.extensions import DEFAULT_CPU
from shstk.schemas.machine import CFI_MODES, QUANTUM
from shstk.schemas.nearest import did_you_mean
from shstk.schemas.revisions import COMPARED, REVISIONS, resolve
from shstk.sweep.seeds import Judging
from shstk.tracer.options import check_cpu


@dataclass(frozen=True)
class HostLimits:
    """What a cell may take of this machine. A run does not depend on them, so no key has them.

    seconds: of wall-clock time. memory: bytes that its process may map for data.
    """

    seconds: float = 300.0
    memory: int = 4 << 30


@dataclass(frozen=True)
class Campaign:
    """images: real kernels, each with its seeds."""

    subjects: tuple[Subject, ...]
    kernels: tuple[str, ...] = COMPARED
    images: tuple[tuple[Image, tuple[int, ...]], ...] = ()
    cpus: tuple[str, ...] = (DEFAULT_CPU,)
    seeds: tuple[int, ...] = (0,)
    quanta: tuple[tuple[int, int], ...] = (QUANTUM,)
    instructions: int | None = None
    disk: int | None = None
    host: HostLimits = field(default_factory=HostLimits)
    judging: Judging = field(default_factory=Judging)

    @property
    def cells(self) -> list[Cell]:
        """Every combination, a kernel after the other: the rows of a kernel are stored together."""
        modelled = [
            Cell(subject, kernel, cpu, seed, quantum, self.instructions, self.disk, self.judging)
            for kernel, subject, cpu, quantum, seed in product(
                self.kernels, self.subjects, self.cpus, self.quanta, self.seeds
            )
        ]
        booted = [
            Cell(subject, one.name, cpu, seed, disk=self.disk, judging=self.judging, image=one)
            for one, seeds in self.images
            for subject, cpu, seed in product(self.subjects, self.cpus, seeds)
        ]
        return modelled + booted


class _Wrong(ValueError):
    """What a value should be."""


def load(path: Path) -> Campaign:
    """The campaign in a file. Its paths are relative to the file's folder. Raises UsageError that
    names the place, and OSError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", "it is not TOML") from error
    folder = path.parent.resolve()
    programs, booted = (_tables(path, table, name) for name in ("program", "image"))
    top = _read(f"{path}", table, _TOP, folder)
    limits = _read(f"{path}: limits", top.pop("limits", {}), _LIMITS, folder)
    judging = _read(f"{path}: judge", top.pop("judge", {}), _JUDGE, folder)
    subjects: dict[Subject, None] = {}
    for number, one in enumerate(programs, 1):
        where = f"{path}: program {number}"
        subjects |= dict.fromkeys(_subjects(where, _read(where, one, _PROGRAM, folder), folder))
    if not subjects:
        raise UsageError(f"{path} names no program", '[[program]] files = ["bin/*.elf"]')
    images = _images(path, booted, folder, top.get("seeds", (0,)))
    if not (images or top.get("kernels", COMPARED)):
        raise UsageError(f"{path} names no kernel", 'kernels = ["7.2"], or an [[image]]')
    if images and any(subject.enable_cfi != CFI_MODES[0] for subject in subjects):
        raise UsageError(
            f"{path}: enable-cfi is not possible with an image",
            "the model's loader does it; give such programs a file of their own",
        )
    of_guest = {name: limits.pop(name) for name in ("instructions", "disk") if name in limits}
    rules = Judging(**judging)
    chosen(rules.select, rules.ignore, catalogue(rules.rules_from))
    given: dict[str, Any] = {
        name: tuple(dict.fromkeys(values)) for name, values in top.items()
    } | of_guest
    return Campaign(
        tuple(subjects),
        images=images,
        host=HostLimits(**limits),
        judging=rules,
        **given,
    )


def _tables(path: Path, table: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = table.pop(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{path}: {name} is no list of tables", f"[[{name}]] begins each")
    return found


def _images(
    path: Path, tables: list[dict[str, Any]], folder: Path, seeds: tuple[int, ...]
) -> tuple[tuple[Image, tuple[int, ...]], ...]:
    """Raises UsageError, BadImage, BadRecording and NoQemu."""
    found: dict[str, tuple[Image, tuple[int, ...]]] = {}
    for number, table in enumerate(tables, 1):
        where = f"{path}: image {number}"
        one = _read(where, table, _IMAGE, folder)
        own = one.pop("seeds", seeds)
        if "file" not in one:
            raise UsageError(f"{where} has no file", 'file = "arch/riscv/boot/Image"')
        image = Image(**{"name": Path(one["file"]).name} | one)
        if image.name in found or image.name.partition(",")[0] in REVISIONS:
            raise UsageError(
                f"{where}: there is another kernel {image.name}", "name = tells them apart"
            )
        check(image)
        image = replace(image, firmware=find_firmware(image.firmware))
        try:
            image = replace(image, contents=contents_of_image(image))
        except OSError as error:
            raise UsageError(f"{where}: {error.filename}: {error.strerror}") from error
        found[image.name] = image, tuple(dict.fromkeys(own))
    return tuple(found.values())


def _subjects(where: str, one: dict[str, Any], folder: Path) -> list[Subject]:
    root: Path | None = one.get("root")
    base = root or folder
    found: list[Path] = []
    for glob in one.get("files", ()):
        matching = sorted(path for path in base.glob(glob.lstrip("/")) if path.is_file())
        if not matching:
            raise UsageError(f"{where}: no file matches {glob!r} in {base}")
        found += matching
    if not found:
        raise UsageError(f"{where} has no files", 'files = ["bin/*.elf"]')
    binds = tuple(one.get("binds", ()))
    try:
        return [
            Subject(
                program=f"/{file.relative_to(root)}" if root else str(file),
                argv=argv,
                stdin=str(stdin) if stdin else None,
                root=str(root) if root else None,
                binds=tuple((str(host), guest) for host, guest in binds),
                env=tuple(one.get("env", {}).items()),
                cwd=one.get("cwd", "/"),
                enable_cfi=one.get("enable_cfi", CFI_MODES[0]),
                contents=contents(file, stdin, root, tuple(host for host, _ in binds)),
            )
            for file in found
            for argv in one.get("args", ((),))
            for stdin in one.get("stdin", (None,))
        ]
    except OSError as error:
        raise UsageError(f"{where}: {error.filename}: {error.strerror}") from error


def _read(
    where: str, table: Any, known: Mapping[str, Callable[[Any, Path], Any]], folder: Path
) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no table")
    found = {}
    for name, value in table.items():
        if name not in known:
            hint = f"{did_you_mean(name, known)} there are {', '.join(known)}".strip()
            raise UsageError(f"{where}: unknown key {name!r}", hint)
        try:
            found[name.replace("-", "_")] = known[name](value, folder)
        except _Wrong as error:
            raise UsageError(f"{where}: {name} is not {error}") from None
        except UsageError as error:
            raise UsageError(f"{where}: {name}: {error.what}", error.hint) from None
    return found


def _text(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _Wrong("text")
    return value


def _texts(value: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong("a list of texts")
    return tuple(_text(item, folder) for item in value)


def _path(value: Any, folder: Path) -> Path:
    return folder / _text(value, folder)


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in _texts(value, folder))


def _arguments(value: Any, folder: Path) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, list) for v in value):
        raise _Wrong('a list of lists of arguments, such as [["-n", "1"], ["-n", "2"]]')
    return tuple(tuple(_text(word, folder) for word in words) for words in value)


def _env(value: Any, folder: Path) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong("a table of texts")
    return {name: _text(text, folder) for name, text in value.items()}


def _binds(value: Any, folder: Path) -> tuple[tuple[Path, str], ...]:
    pairs = [text.rpartition(":") for text in _texts(value, folder)]
    if not all(host and guest.startswith("/") for host, _, guest in pairs):
        raise _Wrong("a list of HOST:GUEST, where GUEST begins with a slash")
    return tuple((folder / host, guest) for host, _, guest in pairs)


def _mode(value: Any, folder: Path) -> str:
    if value not in CFI_MODES:
        raise _Wrong(f"one of {', '.join(CFI_MODES)}")
    return str(value)


def _kernels(value: Any, folder: Path) -> tuple[str, ...]:
    """None are enough where there are images."""
    return tuple(resolve(name).name for name in _texts(value, folder)) if value != [] else ()


def _revision(value: Any, folder: Path) -> str:
    return resolve(_text(value, folder)).name


def _file(value: Any, folder: Path) -> str:
    return str(_path(value, folder))


def _command(value: Any, folder: Path) -> str:
    """A program, or the name of one on PATH."""
    return _file(value, folder) if "/" in _text(value, folder) else str(value)


def _name(value: Any, folder: Path) -> str:
    if not _text(value, folder) or not value.isprintable():
        raise _Wrong("a name")
    return str(value)


def _user(value: Any, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise _Wrong("the number of a user")
    return value


def _cpus(value: Any, folder: Path) -> tuple[str, ...]:
    for cpu in _texts(value, folder):
        check_cpu(cpu)
    return _texts(value, folder)


def _count(value: Any, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise _Wrong("a number above 0")
    return value


def _seeds(value: Any, folder: Path) -> tuple[int, ...]:
    """A number of seeds, or the seeds."""
    if isinstance(value, list) and value:
        if all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in value):
            return tuple(value)
        raise _Wrong("a number of seeds or a list of seeds")
    return tuple(range(_count(value, folder)))


def _quanta(value: Any, folder: Path) -> tuple[tuple[int, int], ...]:
    found = []
    for text in _texts(value, folder):
        low, _, high = text.partition(":")
        if not (low.isdigit() and (high or low).isdigit() and 1 <= int(low) <= int(high or low)):
            raise _Wrong('a list of ranges of instructions, such as ["100:1000"]')
        found.append((int(low), int(high or low)))
    return tuple(found)


def _seconds(value: Any, folder: Path) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
        raise _Wrong("a number of seconds")
    return float(value)


def _size(value: Any, folder: Path) -> int:
    text = str(value)
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 1)
    number = text if unit == 1 else text[:-1]
    if not number.isdigit() or not int(number):
        raise _Wrong("a size, such as 512M")
    return int(number) * unit


def _expect(value: Any, folder: Path) -> str:
    if value not in ("intent", "revision"):
        raise _Wrong("intent or revision")
    return str(value)


_Readers: TypeAlias = dict[str, Callable[[Any, Path], Any]]


def _as_is(value: Any, folder: Path) -> Any:
    return value


_TOP: Final[_Readers] = {
    "kernels": _kernels,
    "cpus": _cpus,
    "seeds": _seeds,
    "quanta": _quanta,
    "limits": _as_is,
    "judge": _as_is,
}
_PROGRAM: Final[_Readers] = {
    "files": _texts,
    "args": _arguments,
    "stdin": _paths,
    "root": _path,
    "binds": _binds,
    "env": _env,
    "cwd": _text,
    "enable-cfi": _mode,
}
_IMAGE: Final[_Readers] = {
    "file": _file,
    "name": _name,
    "vmlinux": _file,
    "system-map": _file,
    "firmware": _file,
    "qemu": _command,
    "kernel": _revision,
    "append": _text,
    "user": _user,
    "seeds": _seeds,
}
_LIMITS: Final[_Readers] = {
    "instructions": _count,
    "seconds": _seconds,
    "memory": _size,
    "disk": _size,
}
_JUDGE: Final[_Readers] = {
    "expect": _expect,
    "select": _texts,
    "ignore": _texts,
    "rules-from": _paths,
}
