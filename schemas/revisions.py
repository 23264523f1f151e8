"""Kernel revisions as rows of switches. Switches are mechanisms, never outcomes.

What a value *does* is implemented in tracer/kernel (as hooks) and, independently, in replay/derive
(as relations over the tables). This file has only the names, the values and their sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from shstk.schemas.errors import UsageError
from shstk.schemas.own_revisions import BadRevision, find, installed, refused

SEED: Final = "20240403234054.2020347-16-debug@rivosinc.com"


class Switch(NamedTuple):
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
            ("fixed", "bare", "ext"),
            "where a signal frame keeps ss_ptr: a fixed sigcontext field, a bare word behind the"
            " extension list, or an extension header",
        ),
        Switch(
            "signal_ssp",
            ("kept", "moved"),
            "ssp after a delivery has stored its token: kept, so that the handler's first push"
            " overwrites the token, or moved to the token",
        ),
        Switch(
            "prctl_numbers",
            ("71", "74"),
            "first of GET, SET, LOCK under --abi own; the merged kernel's 74 hold otherwise",
        ),
        Switch(
            "cfi_prctl",
            ("absent", "any_bits", "known_bits"),
            "PR_GET_CFI and PR_SET_CFI: absent (under --abi own; as merged otherwise), or present,"
            " where PR_SET_CFI accepts any bits in its argument, or only known bits",
        ),
        Switch(
            "clone3_flags",
            ("into_cgroup", "empty_mntns"),
            "the highest of clone3's flags: CLONE_INTO_CGROUP, or CLONE_EMPTY_MNTNS above AUTOREAP,"
            " NNP and PIDFD_AUTOKILL; one above it is -EINVAL",
        ),
        Switch(
            "nousercfi",
            ("ignored", "obeyed"),
            "riscv_nousercfi on the kernel's command line: an unknown parameter, or no support",
        ),
        Switch(
            "cfi_regset",
            ("always", "usable"),
            "ptrace's NT_RISCV_USER_CFI where neither feature is usable: always there and zero, or"
            " -EINVAL",
        ),
        Switch(
            "ima_ext_1",
            ("zicfiss", "rva23"),
            "bits of riscv_hwprobe's key 16: ZICFISS alone, or RVA23's ZICCLSM, ZICCAMOA, ZICCIF,"
            " ZICCRSE and ZA64RS too",
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
    """One kernel: a named row, or a row with switches changed by the user. release: as in uname."""

    name: str
    date: str
    doc: str
    settings: dict[str, Setting]
    release: str

    def __getitem__(self, switch: str) -> str:
        return self.settings[switch].value

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """The switches whose value is not confirmed by any source."""
        return tuple(name for name, s in self.settings.items() if not s.confirmed)

    @property
    def unturned(self) -> Revision:
        """The row without the user's changes."""
        return REVISIONS.get(_row_name(self.name), self)


_READING = "kernel source as of 7.2.13"
_V3 = f"Message-ID {SEED}"
_V1 = "v1 {}, Message-ID 20240125062739.1339782-{}-debug@rivosinc.com"
_V4 = "v4 {}, Message-ID 20240912231650.3740732-{}-debug@rivosinc.com"


def _s(value: str, source: str) -> Setting:
    """A setting; a source that starts with (?) does not confirm it."""
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

    release: None for a posting, which has no release.
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
    lock_arg=_s("ignored", f"arch_lock_shadow_stack_status; {_V1.format('19/28', 20)}"),
    exec_lock=_s("kept", "only 7.0's fix clears it"),
    sigframe=_s("fixed", f"a field before the fp union; {_V1.format('22/28', 23)}"),
    signal_ssp=_s("kept", f"no set_active_shstk in save_user_shstk; {_V1.format('23/28', 24)}"),
    prctl_numbers=_s("71", f"include/uapi/linux/prctl.h: 71 to 73; {_V1.format('17/28', 18)}"),
    cfi_prctl=_s("absent", "include/uapi/linux/prctl.h: the options came with 7.0"),
    clone3_flags=_s("into_cgroup", "include/uapi/linux/sched.h: the others came with 7.1"),
    nousercfi=_s("ignored", "the parameter came with v13"),
    cfi_regset=_s("always", "the check is in 7.2.13, not yet in 7.1.8"),
    ima_ext_1=_s("zicfiss", "the other bits came with 7.3"),
)
_v2 = _row(
    "v2",
    "2024-03-28",
    "usercfi.c identical to v3's: a delivery moves ssp to its token",
    _v1,
    lock_arg=_s("ignored", "usercfi.c identical to v3's"),
    signal_ssp=_s(
        "moved",
        "v2 22/27, Message-ID 20240329044459.3990638-23-debug@rivosinc.com: set_active_shstk",
    ),
)
_v3 = _row(
    "v3",
    "2024-04-03",
    "the seed patch",
    _v2,
    lock_arg=_s("ignored", "usercfi.c of v3"),
    sigframe=_s("fixed", "a field between sc_regs and the fp union, v3"),
    signal_ssp=_s(
        "moved",
        "v3 23/29, Message-ID 20240403234054.2020347-24-debug@rivosinc.com: set_active_shstk",
    ),
    prctl_numbers=_s("71", "include/uapi/linux/prctl.h of v3: 71, 72, 73"),
)
_v4 = _row(
    "v4",
    "2024-09-12",
    "prctl numbers 74 to 76; ss_ptr moves behind the extension list",
    _v3,
    clone_gate=_s("inverted", _V4.format("16/30", 17)),
    lock_arg=_s("ignored", 'review of v6 19/33: locks "regardless of the value of arg"'),
    sigframe=_s("bare", f"behind the end header, no magic, no size; {_V4.format('23/30', 24)}"),
    prctl_numbers=_s("74", f"include/uapi/linux/prctl.h: 74 to 76; {_V4.format('17/30', 18)}"),
)
_v5 = _row(
    "v5",
    "2024-10-01",
    "the posting in which the inverted test was reported; ss_ptr gets an extension header",
    _v4,
    clone_gate=_s("inverted", "review of 2024-10-07: \"Should it be '!' is_shstk_enabled(tsk)?\""),
    sigframe=_s("ext", "magic 0x9487; Message-ID 20241001-v5_user_cfi_series-v1-23"),
)
_v6 = _row(
    "v6",
    "2024-10-08",
    "the enabled test is fixed",
    _v5,
    clone_gate=_s("correct", "usercfi.c of v6, after the review of 2024-10-07"),
)
_v7 = _row(
    "v7",
    "2024-10-29",
    "release moves to deactivate_mm; LOCK requires arg == 0",
    _v6,
    release_hook=_s("deactivate_mm", "mmu_context.h, deactivate_mm, from v7"),
    lock_arg=_s("zero", "LOCK requires arg == 0, from v7"),
)
_v12 = _row("v12", "2025-03-14", "CSRs are written only where the CPU supports them", _v7)
_v13 = _row(
    "v13",
    "2025-04-24",
    "command-line disable of each feature (riscv_nousercfi), ptrace bits",
    _v12,
    nousercfi=_s("obeyed", "v13 21/28, Message-ID 20250424-v5_user_cfi_series-v13-21"),
)
_v23 = _row("v23", "2025-11-12", "first of the last postings", _v13)
_v26 = _row("v26", "2025-12-11", "last posting found", _v23)
_7_0_rc1 = _row(
    "7.0-rc1",
    "2026-02",
    "merged",
    _v26,
    release="7.0.0-rc1",
    map_token_returns=_s("base", "usercfi.c as merged"),
)
_7_0 = _row(
    "7.0",
    "2026-04",
    "exec clears the lock; PR_GET_CFI, PR_SET_CFI",
    _7_0_rc1,
    release="7.0.0",
    exec_lock=_s("cleared", "fix in 7.0-rc7"),
    prctl_numbers=_s("74", "include/uapi/linux/prctl.h of 7.0: 74, 75, 76"),
    cfi_prctl=_s(
        "any_bits",
        "(?) the options came with 7.0; 7.1 is the first to refuse bits, and 7.0.y does so from"
        " June 2026",
    ),
)
_7_1 = _row(
    "7.1",
    "2026-05",
    "default size halved, cap 2 GiB",
    _7_0,
    release="7.1.0",
    default_size=_s("2:2G", "calc_shstk_size of 7.1.8, whose usercfi.c is 7.2.13's"),
    cfi_prctl=_s("known_bits", "unknown bits are -EINVAL from 7.1"),
    clone3_flags=_s(
        "empty_mntns",
        "include/uapi/linux/sched.h of 7.1; Message-ID"
        " 20260226-work-pidfs-autoreap-v5-0-d148b984a989@kernel.org",
    ),
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
    cfi_regset=_s("usable", f"riscv_cfi_get and riscv_cfi_set, {_READING}"),
)
_7_3 = _row(
    "7.3",
    "7.3-rc7",
    "smaller default size; RVA23's bits in riscv_hwprobe",
    _7_2,
    release="7.3.0-rc7",
    default_size=_s("8:512M", "calc_shstk_size as of 7.3-rc7"),
    cfi_regset=_s("usable", "riscv_cfi_get and riscv_cfi_set as of 7.3-rc7"),
    ima_ext_1=_s("rva23", "uapi/asm/hwprobe.h of 7.3: bits 1 to 5 of RISCV_HWPROBE_KEY_IMA_EXT_1"),
)
_7_4 = _row(
    "7.4",
    "after 2026-10-09 (?)",
    "(?) queued, by title: df333b72c0e1 bounds check restore token before swap, ca47e2891135 only"
    " write envcfg CSR when task is current",
    _7_3,
    release="7.4.0",
    **{name: replace(s, source="as 7.3", confirmed=False) for name, s in _7_3.settings.items()},
)

REVISIONS: Final[dict[str, Revision]] = {
    r.name: r
    for r in (
        *(_v1, _v2, _v3, _v4, _v5, _v6, _v7, _v12, _v13, _v23, _v26),
        *(_7_0_rc1, _7_0, _7_1, _7_2, _7_3, _7_4),
    )
}
DEFAULT_REVISION: Final = "7.2"
COMPARED: Final = ("v3", "v6", "7.0", "7.2", "7.3")  # by `matrix`, by default

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
    """`7.2` or `7.2,release_hook=exit_thread,default_size=1:4G` -> the row, switches changed.

    The name of a changed row is the text itself. A name that is no row may be a revision from
    outside, which stands for its base and switches. Raises UsageError, BadRevision.
    """
    name, *turns = [part.strip() for part in text.split(",")]
    if name in REVISIONS:
        row = REVISIONS[name]
        settings = [_turned(turn, text) for turn in turns]
        return _with(row, text.replace(" ", ""), settings)
    own = find(name)
    if own is None:
        known = " ".join([*REVISIONS, *installed()])
        raise UsageError(f"unknown kernel revision {name!r}", f"known: {known}")
    if own.base not in REVISIONS:
        raise BadRevision(f"{own.where}: base {own.base!r} is none of {' '.join(REVISIONS)}")
    given = [f"{switch}={value}" for switch, value in own.switches.items()]
    try:
        settings = [(n, _s(s.value, own.sources.get(n, own.where))) for n, s in map(_turned, given)]
    except UsageError as error:
        raise refused(own, error) from error
    settings += [_turned(turn, text) for turn in turns]
    return _with(REVISIONS[own.base], ",".join([own.base, *given, *turns]), settings)


def _with(row: Revision, name: str, settings: list[tuple[str, Setting]]) -> Revision:
    if not settings:
        return row
    return replace(row, name=name, settings={**row.settings, **dict(settings)})


def _turned(turn: str, text: str = "") -> tuple[str, Setting]:
    """A switch and its value. text: that of --kernel."""
    switch, equals, value = turn.partition("=")
    if switch not in SWITCHES or not equals:
        where = f" in --kernel {text}" if text else ""
        raise UsageError(f"unknown switch {turn!r}{where}", f"switches: {' '.join(SWITCHES)}")
    values = SWITCHES[switch].values
    if values and value not in values:
        raise UsageError(f"{switch}={value}: no such value", f"values: {' '.join(values)}")
    if switch == "default_size":
        parse_default_size(value)
    return switch, Setting(value, "turned by the user")


def recorded(kernel: str, switches: dict[str, Setting]) -> Revision:
    """The kernel of a run, with the switches as resolved at recording.

    A switch that is newer than the run takes its value from the revision's row.
    """
    row = REVISIONS.get(_row_name(kernel))
    if row is None:
        release = _posted(_row_name(kernel))
        return Revision(kernel, "", "unknown to this version", switches, release)
    return replace(row, name=kernel, settings={**row.settings, **switches})


def first_with(switch: str, value: str) -> str:
    """The name of the first revision in which a switch has a value."""
    return next(row.name for row in REVISIONS.values() if row[switch] == value)
