"""The operands of vector instructions in the syntax of GNU objdump."""

from __future__ import annotations

from typing import Final

# The operands by the format of the row: d s t are the vector registers vd, vs1, vs2; x1 x2 xd
# integer and f1 fd floating-point registers; (x1) an address; simm uimm uimm6 immediates; vtype.
_BY_FORMAT: Final = {
    "VSETVLI": "xd x1 vtype11",
    "VSETIVLI": "xd uimm vtype10",
    "VSETVL": "xd x1 x2",
    "VL": "d (x1)",
    "VLX": "d (x1) x2",
    "VLV": "d (x1) t",
    "VS": "d (x1)",
    "VSX": "d (x1) x2",
    "VSV": "d (x1) t",
    "VV": "d t s",
    "VX": "d t x1",
    "VF": "d t f1",
    "VI": "d t simm",
    "VU": "d t uimm",
    "VU6": "d t uimm6",
    "VVM": "d t s v0",
    "VXM": "d t x1 v0",
    "VIM": "d t simm v0",
    "VFM": "d t f1 v0",
    "V0": "d",
    "V1": "d s",
    "X1": "d x1",
    "I1": "d simm",
    "F1": "d f1",
    "V2": "d t",
    "XV2": "xd t",
    "FV2": "fd t",
}
_MULTIPLY_ADD: Final = {"VV": "d s t", "VX": "d x1 t", "VF": "d f1 t"}
_ACCUMULATING: Final = ("macc", "nmsac", "madd", "nmsub", "msac", "nmacc", "nmadd", "msub")
_NEVER_MASKED: Final = ("VSETVLI", "VSETIVLI", "VSETVL", "VVM", "VXM", "VIM", "VFM")

# Pseudo-instructions: (row, operand, its value) -> name, operands. "same": vs1 is vs2; "one": vd
# too.
_PSEUDO: Final = {
    ("vrsub_vx", "x1", 0): ("vneg.v", "d t"),
    ("vxor_vi", "simm", -1): ("vnot.v", "d t"),
    ("vwadd_vx", "x1", 0): ("vwcvt.x.x.v", "d t"),
    ("vwaddu_vx", "x1", 0): ("vwcvtu.x.x.v", "d t"),
    ("vnsrl_wx", "x1", 0): ("vncvt.x.x.w", "d t"),
    ("vmand_mm", "same", 1): ("vmmv.m", "d t"),
    ("vmnand_mm", "same", 1): ("vmnot.m", "d t"),
    ("vmxor_mm", "one", 1): ("vmclr.m", "d"),
    ("vmxnor_mm", "one", 1): ("vmset.m", "d"),
    ("vfsgnjn_vv", "same", 1): ("vfneg.v", "d t"),
    ("vfsgnjx_vv", "same", 1): ("vfabs.v", "d t"),
}
_WHOLE: Final = {f"vl{n}re8_v": f"vl{n}r.v" for n in (1, 2, 4, 8)}


def spelled(name: str, format_: str, word: int, x: list[str], f: list[str]) -> str | None:
    """The text of a vector instruction; None for a row of another kind. x, f: ABI names."""
    if format_ not in _BY_FORMAT:
        return None
    vd, vs1, vs2 = word >> 7 & 31, word >> 15 & 31, word >> 20 & 31
    parts = {
        "d": f"v{vd}", "s": f"v{vs1}", "t": f"v{vs2}", "v0": "v0",
        "xd": x[vd], "x1": x[vs1], "x2": x[vs2], "fd": f[vd], "f1": f[vs1],
        "(x1)": f"({x[vs1]})", "simm": str((vs1 ^ 16) - 16), "uimm": str(vs1),
        "uimm6": str(vs1 | word >> 21 & 32),
        "vtype11": _vtype(word >> 20 & 0x7FF), "vtype10": _vtype(word >> 20 & 0x3FF),
    }  # fmt: skip
    text, operands = _WHOLE.get(name, name.replace("_", ".")), _BY_FORMAT[format_]
    if any(kind in name for kind in _ACCUMULATING):
        operands = _MULTIPLY_ADD.get(format_, operands)
    same = vs1 == vs2
    for part, value in (
        ("x1", vs1),
        ("simm", (vs1 ^ 16) - 16),
        ("same", int(same)),
        ("one", int(same and vd == vs1)),
    ):
        text, operands = _PSEUDO.get((name, part, value), (text, operands))
    written = [parts[part] for part in operands.split()]
    if not word >> 25 & 1 and format_ not in _NEVER_MASKED:
        written.append("v0.t")
    return f"{text} {','.join(written)}"


def _vtype(value: int) -> str:
    lmul, sew = value & 7, value >> 3 & 7
    if value > 0xFF or lmul == 4 or sew > 3:
        return str(value)
    group = f"m{1 << lmul}" if lmul < 4 else f"mf{1 << 8 - lmul}"
    tail, mask = ("tu", "ta")[value >> 6 & 1], ("mu", "ma")[value >> 7]
    return f"e{8 << sew},{group},{tail},{mask}"
