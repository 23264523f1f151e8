"""What strace prints for arguments and results."""

from __future__ import annotations

import errno
import re
from typing import Final

from shstk.schemas import uapi
from shstk.schemas.uapi import ERRNO, RLIMITS, SIGNALS

# Options of prctl that riscv64 or its model does not have. The revisions of the patches before 7.0
# used 71 to 73, which others have now.
_OPTIONS: Final = {
    "PR_GET_UNALIGN": 5, "PR_SET_UNALIGN": 6, "PR_GET_FPEMU": 9, "PR_SET_FPEMU": 10,
    "PR_GET_FPEXC": 11, "PR_SET_FPEXC": 12, "PR_GET_ENDIAN": 19, "PR_SET_ENDIAN": 20,
    "PR_GET_SECCOMP": 21, "PR_SET_SECCOMP": 22, "PR_GET_TSC": 25, "PR_SET_TSC": 26,
    "PR_TASK_PERF_EVENTS_DISABLE": 31, "PR_TASK_PERF_EVENTS_ENABLE": 32, "PR_MCE_KILL": 33,
    "PR_MCE_KILL_GET": 34, "PR_SET_FP_MODE": 45, "PR_GET_FP_MODE": 46, "PR_SVE_SET_VL": 50,
    "PR_SVE_GET_VL": 51, "PR_GET_SPECULATION_CTRL": 52, "PR_SET_SPECULATION_CTRL": 53,
    "PR_PAC_RESET_KEYS": 54, "PR_SET_SYSCALL_USER_DISPATCH": 59, "PR_PAC_SET_ENABLED_KEYS": 60,
    "PR_PAC_GET_ENABLED_KEYS": 61, "PR_SCHED_CORE": 62, "PR_SME_SET_VL": 63, "PR_SME_GET_VL": 64,
    "PR_SET_MDWE": 65, "PR_GET_MDWE": 66, "PR_SET_MEMORY_MERGE": 67, "PR_GET_MEMORY_MERGE": 68,
    "PR_RISCV_SET_ICACHE_FLUSH_CTX": 71, "PR_PPC_GET_DEXCR": 72, "PR_PPC_SET_DEXCR": 73,
    "PR_SET_VMA": 0x5356_4D41, "PR_SET_PTRACER": 0x5961_6D61,
}  # fmt: skip
_UAPI: Final[dict[str, int]] = {
    name: value for name, value in vars(uapi).items() if name.isupper() and type(value) is int
}
_NAMES: Final[dict[str, int]] = {
    **_UAPI,
    **{
        f"{name}_PRIVATE": value | uapi.FUTEX_PRIVATE_FLAG
        for name, value in _UAPI.items()
        if name.startswith("FUTEX_")
    },
    **SIGNALS,
    **{f"RLIMIT_{name}": number for number, name in enumerate(RLIMITS)},
    "NULL": 0,
    "PROT_NONE": 0,
    **_OPTIONS,
    "SHADOW_STACK_SET_MARKER": 2,
}
# The kernel's generic numbers, which riscv64 has.
_ERRORS: Final = {name: code for code, name in errno.errorcode.items()} | ERRNO
_COMMENT: Final = re.compile(r" ?/\*.*?\*(?:/|$)")  # a message may follow at once, and take the /
_NAMED: Final = re.compile(r"[a-z_]\w*=(?!=)")
_NUMBER: Final = re.compile(r"(0x[0-9a-f]{1,16}|-?\d{1,20})(<[^<].*)?", re.DOTALL)
_ERROR: Final = re.compile(r"-1 (?:(E\w+) )?\((?:errno (\d{1,4})|.*)\)")
_U64: Final = 2**64
_OPEN, _CLOSE = "([{<", ")]}>"


def split(text: str) -> list[str]:
    """The arguments, or members, of a list: split at the commas that nothing encloses."""
    if not text.strip():
        return []
    if not any(letter in text for letter in '"([{<'):
        return text.split(", ")
    parts, depth, start, at, quoted = [], 0, 0, 0, False
    while at < len(text):
        letter = text[at]
        if quoted:
            if letter == "\\":
                at += 1
            quoted = letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in _OPEN and text[at : at + 2] != "<<":
            depth += 1
        elif letter in _CLOSE and text[at - 1 : at + 1] != "=>":
            depth -= 1
        elif letter == "," and depth <= 0:
            parts.append(text[start:at].strip())
            start = at + 1
        at += 2 if text[at : at + 2] == "<<" and not quoted else 1
    parts.append(text[start:].strip())
    return parts


def members(text: str) -> dict[str, str]:
    """Those of a structure, or of arguments that have names: `flags=…, child_stack=…`."""
    pairs = (part.partition("=") for part in split(text))
    return {name.strip(): value.strip() for name, _, value in pairs}


def number(text: str) -> int | None:
    """A value as the register has it; None: it is not printed, but what it points to, or a name
    that is not known here."""
    text = _COMMENT.sub("", text)
    if named := _NAMED.match(text):
        text = text[named.end() :]
    if found := _NUMBER.fullmatch(text):
        return _integer(found[1]) % _U64
    total = 0
    for word in text.split("|"):
        value = _NAMES.get(word)
        if value is None:
            if not _NUMBER.fullmatch(word) or "<" in word:
                return None
            value = _integer(word)
        total |= value
    return total % _U64


def _integer(word: str) -> int:
    if word.startswith("0x"):
        return int(word, 16)
    if len(word) > 1 and word.startswith("0"):
        return int(word, 8) if all(digit in "01234567" for digit in word) else 0
    return int(word)


def result(text: str) -> int | None:
    """What a call returned; None: it returned nothing, or is restarted."""
    if text.startswith("-1 "):
        found = _ERROR.match(text)
        if found:
            code = int(found[2]) if found[2] else _ERRORS.get(found[1] or "")
            return None if code is None else -code
    found = _NUMBER.match(text)
    if found is None:
        return None
    value = _integer(found[1]) % _U64
    return value - _U64 if value >= _U64 // 2 else value


def signal(name: str) -> int | None:
    """SIGSEGV, SIGRT_1 (the kernel's 33) and SIGRTMIN."""
    if name in SIGNALS:
        return SIGNALS[name]
    if found := re.fullmatch(r"SIGRT_(\d{1,2})", name):
        return 32 + int(found[1])
    return 32 if name == "SIGRTMIN" else int(name) if re.fullmatch(r"\d{1,2}", name) else None
