"""Kernel revisions as rows of switches. Switches are mechanisms, never outcomes.

What a value *does* stands in tracer/kernel (as hooks) and, independently, in replay/derive (as
relations over the tables). Here stand only the names, the values, and who says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from shstk.schemas.errors import UsageError

SEED: Final = "20240403234054.2020347-16-debug@rivosinc.com"


@dataclass(frozen=True)
class Switch:
    name: str
    values: tuple[str, ...]  # empty: free form, see `doc`
    doc: str


SWITCHES: Final[dict[str, Switch]] = {
    s.name: s
    for s in (
        Switch(
            "clone_gate",
            ("inverted", "correct"),
            "the enabled test of shstk_alloc_thread_stack:"
            " inverted returns 0 when the child IS enabled",
        ),
        Switch(
            "release_hook",
            ("exit_thread", "deactivate_mm"),
            "where shstk_release is called: exit_thread (after exit_mm; also when a clone fails"
            " late) or deactivate_mm (inside mm_release, at exit and exec)",
        ),
        Switch(
            "default_size",
            (),
            "div:cap, the default size is PAGE_ALIGN(min(RLIMIT_STACK / div, cap)); cap such as 4G",
        ),
        Switch(
            "map_token_returns",
            ("token", "base"),
            "what map_shadow_stack(SET_TOKEN) returns: base + size - 8, or the base",
        ),
        Switch("lock_arg", ("ignored", "zero"), "LOCK's argument: ignored, or nonzero is -EINVAL"),
        Switch("exec_lock", ("kept", "cleared"), "what exec does to the lock"),
        Switch(
            "sigframe",
            ("fixed", "ext"),
            "where a signal frame keeps ss_ptr: a fixed sigcontext field, or an extension header",
        ),
        Switch(
            "prctl_numbers",
            ("71", "74"),
            "first of GET, SET, LOCK under --abi own; the merged kernel's 74 hold otherwise",
        ),
        Switch(
            "cfi_prctl",
            ("absent", "any_bits", "known_bits"),
            "PR_GET_CFI and PR_SET_CFI: absent (under --abi own; as merged otherwise), or there,"
            " and PR_SET_CFI takes any bits of its argument, or known ones only",
        ),
        Switch(
            "nousercfi",
            ("ignored", "obeyed"),
            "riscv_nousercfi on the kernel's command line: an unknown parameter, or no support",
        ),
    )
}


@dataclass(frozen=True)
class Setting:
    """A switch's value in a revision, and its source."""

    value: str
    source: str
    confirmed: bool = True

    def __str__(self) -> str:
        return self.value if self.confirmed else f"{self.value} (?)"


@dataclass(frozen=True)
class Revision:
    """One kernel: a named row, or a row with switches turned by the user. release: as in uname."""

    name: str
    date: str
    doc: str
    settings: dict[str, Setting]
    release: str

    def __getitem__(self, switch: str) -> str:
        return self.settings[switch].value

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """The switches whose value no source text confirms."""
        return tuple(name for name, s in self.settings.items() if not s.confirmed)

    @property
    def unturned(self) -> Revision:
        """The row without what the user turned."""
        return REVISIONS.get(_row_name(self.name), self)


_READING = "kernel source as of 7.2.13"
_V3 = f"Message-ID {SEED}"
_SERIES = "[PATCH {0}] riscv control-flow integrity, usercfi.c"


def _s(value: str, source: str) -> Setting:
    """A setting; a source that begins with (?) is not confirmed by any text."""
    return Setting(value, source.removeprefix("(?) "), confirmed=not source.startswith("(?)"))


def _row(
    name: str,
    date: str,
    doc: str,
    base: Revision | None = None,
    /,
    release: str | None = None,
    **changed: Setting,
) -> Revision:
    """A revision that differs from `base` only in `changed`.

    release: None for a posting, which has none of its own.
    """
    settings = {**(base.settings if base else {}), **changed}
    ordered = {switch: settings[switch] for switch in SWITCHES}
    return Revision(name, date, doc, ordered, release or _posted(name))


def _posted(name: str) -> str:
    return f"6.12.0-{name}"


def _row_name(kernel: str) -> str:
    """`7.2,release_hook=exit_thread` -> `7.2`."""
    return kernel.partition(",")[0]


_v1 = _row(
    "v1",
    "2024-01-24",
    "first posting",
    None,
    clone_gate=_s(
        "inverted", "usercfi.c, shstk_alloc_thread_stack: if (is_shstk_enabled(tsk)) return 0"
    ),
    release_hook=_s("exit_thread", f"process.c, exit_thread; {_V3}"),
    default_size=_s("1:4G", f"usercfi.c, calc_shstk_size; {_V3}"),
    map_token_returns=_s("token", "usercfi.c, allocate_shadow_stack"),
    lock_arg=_s("ignored", "(?) as v3"),
    exec_lock=_s("kept", "only 7.0's fix clears it"),
    sigframe=_s("fixed", "(?) as v3"),
    prctl_numbers=_s("71", "(?) as v3"),
    cfi_prctl=_s("absent", "include/uapi/linux/prctl.h: the options came with 7.0"),
    nousercfi=_s("ignored", "the parameter came with v12 or v13"),
)
_v2 = _row(
    "v2",
    "2024-03-28",
    "usercfi.c identical to v3's",
    _v1,
    lock_arg=_s("ignored", "usercfi.c identical to v3's"),
)
_v3 = _row(
    "v3",
    "2024-04-03",
    "the seed patch",
    _v2,
    lock_arg=_s("ignored", "usercfi.c of v3"),
    sigframe=_s("fixed", "a field between sc_regs and the fp union, v3"),
    prctl_numbers=_s("71", "include/uapi/linux/prctl.h of v3: 71, 72, 73"),
)
_v4 = _row(
    "v4",
    "2024-09-12",
    "signal state moves to the extension-header list",
    _v3,
    clone_gate=_s("inverted", "(?) between v3 and v5, which have it"),
    lock_arg=_s("ignored", "(?) between v3 and v7"),
    sigframe=_s("ext", "(?) moved in v4 or v5"),
    prctl_numbers=_s("71", "(?) as v3"),
)
_v5 = _row(
    "v5",
    "2024-10-01",
    "the posting in which the inverted test was reported",
    _v4,
    clone_gate=_s("inverted", "review of 2024-10-07: \"Should it be '!' is_shstk_enabled(tsk)?\""),
    sigframe=_s("ext", "extension-header list, v5"),
)
_v6 = _row(
    "v6",
    "2024-10-08",
    "the enabled test is fixed",
    _v5,
    clone_gate=_s("correct", "usercfi.c of v6, after the review of 2024-10-07"),
    sigframe=_s("ext", "extension-header list, v5"),
)
_v7 = _row(
    "v7",
    "autumn 2024 (?)",
    "release moves to deactivate_mm",
    _v6,
    release_hook=_s("deactivate_mm", "mmu_context.h, deactivate_mm, from v7"),
    lock_arg=_s("zero", "LOCK insists on arg == 0, from v7"),
)
_v12 = _row(
    "v12",
    "2025",
    "command-line disable (riscv_nousercfi), ptrace bits",
    _v7,
    nousercfi=_s("obeyed", "(?) came with v12 or v13"),
)
_v23 = _row(
    "v23",
    "2025-11",
    "first of the last postings",
    _v12,
    nousercfi=_s("obeyed", "riscv_nousercfi counts as no support, from v13"),
)
_v26 = _row("v26", "2025-12", "last posting", _v23)
_7_0_rc1 = _row(
    "7.0-rc1",
    "2026-02",
    "merged",
    _v26,
    release="7.0.0-rc1",
    map_token_returns=_s("base", "usercfi.c as merged"),
    prctl_numbers=_s("74", "(?) as 7.0"),
)
_7_0 = _row(
    "7.0",
    "2026-04",
    "exec clears the lock; PR_GET_CFI, PR_SET_CFI",
    _7_0_rc1,
    release="7.0.0",
    exec_lock=_s("cleared", "fix in 7.0-rc7"),
    prctl_numbers=_s("74", "include/uapi/linux/prctl.h of 7.0: 74, 75, 76"),
    cfi_prctl=_s("any_bits", "(?) the options came with 7.0; 7.1 is the first to refuse bits"),
)
_7_1 = _row(
    "7.1",
    "2026-05",
    "default size halved, cap 2 GiB",
    _7_0,
    release="7.1.0",
    default_size=_s(
        "2:2G", "(?) cap from the title of a 7.1-rc4 commit; the /2 was read in 7.2.13"
    ),
    cfi_prctl=_s("known_bits", "unknown bits are -EINVAL from 7.1"),
)
_7_2 = _row(
    "7.2",
    "2026 (7.2.13)",
    "the release whose answers were seen on real kernels",
    _7_1,
    release="7.2.13",
    default_size=_s("2:2G", f"calc_shstk_size, {_READING}; seen on 7.2.13"),
    cfi_prctl=_s("known_bits", "seen on 7.2.13"),
    nousercfi=_s("obeyed", "seen on 7.2.13"),
)
_7_3 = _row(
    "7.3",
    "7.3-rc7",
    "smaller default size",
    _7_2,
    release="7.3.0-rc7",
    default_size=_s("8:512M", "calc_shstk_size as of 7.3-rc7"),
)

REVISIONS: Final[dict[str, Revision]] = {
    r.name: r
    for r in (_v1, _v2, _v3, _v4, _v5, _v6, _v7, _v12, _v23, _v26, _7_0_rc1, _7_0, _7_1, _7_2, _7_3)
}
DEFAULT_REVISION: Final = "7.2"
COMPARED: Final = ("v3", "v6", "7.0", "7.2", "7.3")  # by `matrix`, unless it is told otherwise

_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def parse_default_size(value: str) -> tuple[int, int]:
    """`div:cap` -> (div, cap in bytes). Raises UsageError."""
    div, colon, cap = value.partition(":")
    unit = cap[-1:].upper() if not cap[-1:].isdigit() else ""
    number = cap[: len(cap) - len(unit)]
    if not (colon and div.isdigit() and int(div) and number.isdigit() and unit in _UNITS):
        raise UsageError(
            f"default_size={value}: expected div:cap", "for example default_size=2:2G (as in 7.2)"
        )
    return int(div), int(number) * _UNITS[unit]


def resolve(text: str) -> Revision:
    """`7.2` or `7.2,release_hook=exit_thread,default_size=1:4G` -> the row, switches turned.

    The name of a turned row is the text itself. Raises UsageError.
    """
    name, *turns = [part.strip() for part in text.split(",")]
    if name not in REVISIONS:
        raise UsageError(f"unknown kernel revision {name!r}", f"known: {' '.join(REVISIONS)}")
    row = REVISIONS[name]
    turned: dict[str, Setting] = {}
    for turn in turns:
        switch, equals, value = turn.partition("=")
        if switch not in SWITCHES or not equals:
            raise UsageError(
                f"unknown switch {turn!r} in --kernel {text}", f"switches: {' '.join(SWITCHES)}"
            )
        values = SWITCHES[switch].values
        if values and value not in values:
            raise UsageError(f"{switch}={value}: no such value", f"values: {' '.join(values)}")
        if switch == "default_size":
            parse_default_size(value)
        turned[switch] = Setting(value, "turned by the user")
    if not turned:
        return row
    return replace(row, name=text.replace(" ", ""), settings={**row.settings, **turned})


def recorded(kernel: str, switches: dict[str, Setting]) -> Revision:
    """The kernel of a run, with its switches as they were resolved when it was recorded.

    A switch that is newer than the run has the value of the revision's row.
    """
    row = REVISIONS.get(_row_name(kernel))
    if row is None:
        release = _posted(_row_name(kernel))
        return Revision(kernel, "", "unknown to this version", switches, release)
    return replace(row, name=kernel, settings={**row.settings, **switches})


def first_with(switch: str, value: str) -> str:
    """The name of the first revision in which a switch has a value."""
    return next(row.name for row in REVISIONS.values() if row[switch] == value)
