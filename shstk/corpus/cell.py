"""One cell of a campaign: a program under one kernel, CPU, seed and quantum, and how it is judged.
The kernel is a revision of the model, or a real kernel's Image, which has no quantum.

A cell has two keys. `run` names the execution: all that the recorded run depends on. `key` names
the judged cell: the execution, how it is judged, and the build of the tool that does both. Paths of
the host are in neither, but for the names that the guest sees.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from shstk.corpus.image import Image
from shstk.schemas.extensions import DEFAULT_CPU
from shstk.schemas.machine import CFI_MODES, QUANTUM
from shstk.schemas.revisions import DEFAULT_REVISION, resolve
from shstk.schemas.tables import DERIVABLE
from shstk.sweep.seeds import Judging
from shstk.tracer.options import GuestArguments
from shstk.tracer.realkernel.options import DEFAULT_EVENTS_LIMIT, RealOptions

_KEY: Final = 32  # hex digits


@dataclass(frozen=True)
class Subject:
    """A program and its inputs.

    program: a file of the host, or a path in root. stdin: a file. binds: (host, guest), read-only.
    contents: the digest of the program's bytes, standard input, root and binds.
    """

    program: str
    argv: tuple[str, ...] = ()
    stdin: str | None = None
    root: str | None = None
    binds: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    enable_cfi: str = CFI_MODES[0]
    contents: str = ""

    @property
    def name(self) -> str:
        """What the guest sees of the program's place."""
        return self.program if self.root else Path(self.program).name

    @property
    def command(self) -> str:
        """As people tell programs apart: its name, arguments and input."""
        words = shlex.join([self.name, *self.argv])
        return f"{words} < {Path(self.stdin).name}" if self.stdin else words


@dataclass(frozen=True)
class Cell:
    """kernel: a revision, or the name of `image`. instructions, disk: the limits that end a run in
    the same place everywhere; disk is of an image's events."""

    subject: Subject
    kernel: str = DEFAULT_REVISION
    cpu: str = DEFAULT_CPU
    seed: int = 0
    quantum: tuple[int, int] = QUANTUM
    instructions: int | None = None
    disk: int | None = None
    judging: Judging = field(default_factory=Judging)
    image: Image | None = None

    @property
    def slices(self) -> str:
        """The quantum, as people write it."""
        low, high = self.quantum
        return "" if self.image else f"{low}:{high}"

    @property
    def guest(self) -> GuestArguments:
        """The keyword arguments of shstk.record."""
        subject = self.subject
        return GuestArguments(
            kernel=self.kernel,
            cpu=self.cpu,
            seed=self.seed,
            quantum=self.quantum,
            stdin=self._stdin,
            root=subject.root,
            binds=[(host, guest, False) for host, guest in subject.binds],
            env=dict(subject.env),
            cwd=subject.cwd,
            enable_cfi=subject.enable_cfi,
            max_instructions=self.instructions,
        )

    def machine(self, image: Image, out: Path) -> RealOptions:
        """The argument of shstk.record_real_kernel. Who executes the cell limits its time."""
        subject = self.subject
        return RealOptions(
            files=image.files,
            program=subject.program,
            argv=subject.argv,
            kernel=image.kernel,
            out=out,
            firmware=Path(image.firmware) if image.firmware else None,
            qemu=image.qemu,
            cpu=self.cpu,
            append=image.append,
            root=Path(subject.root) if subject.root else None,
            binds=[(host, guest, False) for host, guest in subject.binds],
            env=dict(subject.env),
            stdin=self._stdin,
            cwd=subject.cwd,
            seed=self.seed,
            uid=image.user,
            timeout=float("inf"),
            events_limit=DEFAULT_EVENTS_LIMIT if self.disk is None else self.disk,
        )

    @property
    def _stdin(self) -> bytes:
        return Path(self.subject.stdin).read_bytes() if self.subject.stdin else b""

    @property
    def _kernel(self) -> list[Any]:
        """What the run depends on of the kernel."""
        if (image := self.image) is not None:
            return [image.name, image.kernel, image.append, image.user, image.contents]
        row = resolve(self.kernel)
        return [row.name, row.release, {n: s.value for n, s in row.settings.items()}]

    @property
    def run(self) -> str:
        """The key of the execution."""
        seen = asdict(self) | {
            "subject": asdict(self.subject) | {"program": self.subject.name, "stdin": ""},
            "kernel": self._kernel,
            "judging": None,
        }
        del seen["image"]
        seen["subject"] |= {"root": bool(self.subject.root)}
        seen["subject"] |= {"binds": [guest for _, guest in self.subject.binds]}
        return _digest(seen)

    def key(self, build: str) -> str:
        """The key of the judged cell."""
        own = [Path(file).read_text(encoding="utf-8") for file in self.judging.rules_from]
        return _digest([build, self.run, asdict(self.judging) | {"rules_from": own}])

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str, separators=(",", ":"))

    @property
    def commands(self) -> str:
        """What reproduces the cell in a shell: it records the run, and judges it."""
        subject, judging = self.subject, self.judging
        out = f"{Path(subject.program).stem}.{self.run[:8]}.run"
        kernel = self.image.words if self.image else ["--kernel", self.kernel]
        words = ["shstk", "record", *kernel, "--seed", str(self.seed)]
        words += ["--quantum", self.slices] if self.quantum != QUANTUM else []
        words += ["--cpu", self.cpu] if self.cpu != DEFAULT_CPU else []
        if subject.enable_cfi != CFI_MODES[0]:
            words += ["--enable-cfi", subject.enable_cfi]
        words += ["--root", subject.root] if subject.root else []
        words += ["--cwd", subject.cwd] if subject.cwd != "/" else []
        for host, guest in subject.binds:
            words += ["--bind", f"{host}:{guest}"]
        for name, value in subject.env:
            words += ["--env", f"{name}={value}"]
        if self.instructions is not None:
            words += ["--max-instructions", str(self.instructions)]
        if self.disk is not None and self.image:
            words += ["--events-limit", str(self.disk)]
        elif self.disk is not None:  # by the tables that execute.py records
            words += ["--max-size", str(self.disk), "--trace", ",".join(DERIVABLE)]
        words += ["--stdin", subject.stdin or "/dev/null", "-o", out]
        check = ["shstk", "check", out]
        check += ["--expect", judging.expect] if judging.expect != "intent" else []
        check += ["--as", judging.as_] if judging.as_ else []
        check += ["--select", ",".join(judging.select)] if judging.select else []
        check += ["--ignore", ",".join(judging.ignore)] if judging.ignore else []
        for file in judging.rules_from:
            check += ["--rules-from", str(file)]
        return f"{shlex.join([*words, subject.program, *subject.argv])} && {shlex.join(check)}"


def from_json(text: str) -> Cell:
    """A cell as `to_json` wrote it."""
    whole: dict[str, Any] = json.loads(text)
    subject, judging, image = whole["subject"], whole["judging"], whole.get("image")
    for name in ("binds", "env"):
        subject[name] = tuple(tuple(pair) for pair in subject[name])
    return Cell(
        **whole
        | {
            "subject": Subject(**subject | {"argv": tuple(subject["argv"])}),
            "quantum": tuple(whole["quantum"]),
            "image": Image(**image) if image else None,
            "judging": Judging(
                **judging
                | {
                    "select": tuple(judging["select"]),
                    "ignore": tuple(judging["ignore"]),
                    "rules_from": tuple(Path(file) for file in judging["rules_from"]),
                }
            ),
        }
    )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY]
