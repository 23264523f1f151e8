"""Disassembly in the syntax of GNU objdump.

The executor's own decoder decodes the word (`_core.decode`): names and formats are those of the
rows in core/isa, and a compressed word is its expansion. This module has only the syntax of
operands and the pseudo-instructions (ret, li, beqz), which depend on the value of an operand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from shstk.tracer._core import decode
from shstk.tracer.disassembly import vector


def _words(text: str) -> list[str]:
    return text.split()


_X: Final = _words(
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5"
    " a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
_F: Final = _words(
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5"
    " fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11"
)
_CSR: Final = {1: "fflags", 2: "frm", 3: "fcsr", 0x11: "ssp"} | {
    0xC00: "cycle",
    0xC01: "time",
    0xC02: "instret",
    0x008: "vstart",
    0x009: "vxsat",
    0x00A: "vxrm",
    0x00F: "vcsr",
    0xC20: "vl",
    0xC21: "vtype",
    0xC22: "vlenb",
}
_ROUNDING: Final = ("rne", "rtz", "rdn", "rup", "rmm", "unknown", "unknown", "")  # dyn: not printed
_ORDER: Final = ("", ".rl", ".aq", ".aqrl")
# Zfa's fli: the constants by number, in C's %a format.
_CONSTANTS: Final = _words(
    "-0x1p+0 min 0x1p-16 0x1p-15 0x1p-8 0x1p-7 0x1p-4 0x1p-3 0x1p-2 0x1.4p-2 0x1.8p-2 0x1.cp-2"
    " 0x1p-1 0x1.4p-1 0x1.8p-1 0x1.cp-1 0x1p+0 0x1.4p+0 0x1.8p+0 0x1.cp+0 0x1p+1 0x1.4p+1"
    " 0x1.8p+1 0x1p+2 0x1p+3 0x1p+4 0x1p+7 0x1p+8 0x1p+15 0x1p+16 inf nan"
)

# The operands, one letter each (see _operand): by the format of the row, overridden by its name.
_BY_FORMAT: Final = {
    "NONE": "",
    "END": "",
    "R": "d,s,t",
    "I": "d,s,i",
    "SHIFT": "d,s,x",
    "S": "t,i(s)",
    "B": "s,t,p",
    "U": "d,u",
    "UPC": "d,u",
    "J": "d,p",
    "CSR": "d,c,s",
    "FI": "D,i(s)",
    "FR": "D,S,T",
    "XR": "d,S,T",
    "R4": "D,S,T,Rm",
}
_BY_NAME: Final = {
    name: operands
    for operands, names in {
        "d,i(s)": "lb lh lw ld lbu lhu lwu jalr",
        "T,i(s)": "fsh fsw fsd",
        "d,c,z": "csrrwi csrrsi csrrci",
        "d,(s)": "lr_w lr_d",
        "d,t,(s)": " ".join(
            f"{name}_{size}"
            for name in _words(
                "amoswap amoadd amoxor amoand amoor amomin amomax amominu amomaxu amocas"
                " ssamoswap sc"
            )
            for size in "bhwdq"
        ),
        "d,s": "clz ctz cpop clzw ctzw cpopw sext_b sext_h zext_h orc_b rev8 mop_r",
        "(s)": "cbo_inval cbo_clean cbo_flush cbo_zero",
        "t": "sspush",
        "s": "sspopchk",
        "d": "ssrdp",
        "u": "lpad",
        "F": "fence",
        "D,S,Tm": "fadd_s fsub_s fmul_s fdiv_s fadd_d fsub_d fmul_d fdiv_d",
        "D,Sm": "fsqrt_s fsqrt_d fcvt_s_d fcvt_h_s fcvt_h_d fround_s froundnx_s fround_d"
        " froundnx_d",
        "D,S": "fcvt_d_s fcvt_s_h fcvt_d_h",
        "D,sm": "fcvt_s_w fcvt_s_wu fcvt_s_l fcvt_s_lu fcvt_d_l fcvt_d_lu",
        "D,s": "fcvt_d_w fcvt_d_wu fmv_w_x fmv_d_x fmv_h_x",
        "d,Sm": "fcvt_w_s fcvt_wu_s fcvt_l_s fcvt_lu_s fcvt_w_d fcvt_wu_d fcvt_l_d fcvt_lu_d"
        " fcvtmod_w_d",
        "d,S": "fclass_s fclass_d fmv_x_w fmv_x_d fmv_x_h",
        "D,f": "fli_s fli_d",
    }.items()
    for name in names.split()
}

# Pseudo-instructions: (operand values, name, operands); the first match is used. "same": rs1 is
# rs2; "short": the word is compressed.
_Pseudo = tuple[dict[str, int], str, str]
_PSEUDO: Final[dict[str, tuple[_Pseudo, ...]]] = {
    "addi": (
        ({"rd": 0, "rs1": 0, "imm": 0}, "nop", ""),
        ({"rs1": 0}, "li", "d,i"),
        ({"imm": 0, "short": 0}, "mv", "d,s"),
    ),
    "add": (({"rs1": 0, "short": 1}, "mv", "d,t"),),
    "xori": (({"imm": -1}, "not", "d,s"),),
    "andi": (({"imm": 255}, "zext.b", "d,s"),),
    "addiw": (({"imm": 0}, "sext.w", "d,s"),),
    "add_uw": (({"rs2": 0}, "zext.w", "d,s"),),
    "sub": (({"rs1": 0}, "neg", "d,t"),),
    "subw": (({"rs1": 0}, "negw", "d,t"),),
    "sltiu": (({"imm": 1}, "seqz", "d,s"),),
    "sltu": (({"rs1": 0}, "snez", "d,t"),),
    "slt": (({"rs2": 0}, "sltz", "d,s"), ({"rs1": 0}, "sgtz", "d,t")),
    "beq": (({"rs2": 0}, "beqz", "s,p"),),
    "bne": (({"rs2": 0}, "bnez", "s,p"),),
    "blt": (({"rs2": 0}, "bltz", "s,p"), ({"rs1": 0}, "bgtz", "t,p")),
    "bge": (({"rs1": 0}, "blez", "t,p"), ({"rs2": 0}, "bgez", "s,p")),
    "jal": (({"rd": 0}, "j", "p"), ({"rd": 1}, "jal", "p")),
    "jalr": (
        ({"rd": 0, "rs1": 1, "imm": 0}, "ret", ""),
        ({"rd": 0, "imm": 0}, "jr", "s"),
        ({"rd": 0}, "jr", "i(s)"),
        ({"rd": 1, "imm": 0}, "jalr", "s"),
        ({"rd": 1}, "jalr", "i(s)"),
        ({"imm": 0}, "jalr", "d,s"),
    ),
    "csrrw": (
        ({"rd": 0, "rs1": 0, "imm": 0xC00}, "unimp", ""),
        *(
            row
            for csr, name in ((1, "fsflags"), (2, "fsrm"), (3, "fscsr"))
            for row in (({"imm": csr, "rd": 0}, name, "s"), ({"imm": csr}, name, "d,s"))
        ),
        ({"rd": 0}, "csrw", "c,s"),
    ),
    "csrrs": (
        *(
            ({"imm": csr, "rs1": 0}, name, "d")
            for csr, name in (
                (1, "frflags"),
                (2, "frrm"),
                (3, "frcsr"),
                (0xC00, "rdcycle"),
                (0xC01, "rdtime"),
                (0xC02, "rdinstret"),
            )
        ),
        ({"rs1": 0}, "csrr", "d,c"),
        ({"rd": 0}, "csrs", "c,s"),
    ),
    "csrrc": (({"rd": 0}, "csrc", "c,s"),),
    "csrrwi": (
        *(
            row
            for csr, name in ((1, "fsflagsi"), (2, "fsrmi"))
            for row in (({"imm": csr, "rd": 0}, name, "z"), ({"imm": csr}, name, "d,z"))
        ),
        ({"rd": 0}, "csrwi", "c,z"),
    ),
    "csrrsi": (({"rd": 0}, "csrsi", "c,z"),),
    "csrrci": (({"rd": 0}, "csrci", "c,z"),),
    "fence": (
        ({"word": 0x0100_000F}, "pause", ""),
        ({"word": 0x0FF0_000F}, "fence", ""),
        ({"word": 0x8330_000F}, "fence.tso", ""),
    ),
    **{
        f"{name}_{size}": (({"same": 1}, f"{pseudo}.{size}", "D,S"),)
        for name, pseudo in (("fsgnj", "fmv"), ("fsgnjn", "fneg"), ("fsgnjx", "fabs"))
        for size in "sd"
    },
}


def register(number: int) -> str:
    """The ABI name of insn.rd: 0..31 x, 32..63 f, 64..95 v."""
    kind, index = divmod(number, 32)
    return f"v{index}" if kind == 2 else (_X, _F)[kind][index]


def disassemble(word: int, pc: int) -> str:
    """word: as in insn.word; a compressed one has 16 bits. Branch targets are shown as hexadecimal
    addresses, and words that are not instructions as data."""
    text, offset = _spelled(word)
    return text if offset is None else f"{text}{(pc + offset) % 2**64:x}"


@lru_cache(1 << 16)
def _spelled(word: int) -> tuple[str, int | None]:
    """The text without the target at its end, and the target's offset from the pc, if any."""
    short = word & 3 != 3
    row = decode(word)
    if word == 0:
        return "unimp", None
    if row is None:
        return (f".2byte 0x{word:x}" if short else f".4byte 0x{word:x}"), None
    name, format_, rd, rs1, rs2, rs3, imm = row
    if short and name == "fence":
        return f"c.mop.{word >> 7 & 15}", None
    if (vectors := vector.spelled(name, format_, word, _X, _F)) is not None:
        return vectors, None
    fields = {"rd": rd, "rs1": rs1, "rs2": rs2, "rs3": rs3, "imm": imm, "word": word}
    facts = {**fields, "same": int(rs1 == rs2), "short": int(short)}
    spelled, written = name.replace("_", ".") + _suffix(name, word), None
    for wanted, pseudo, operands in _PSEUDO.get(name, ()):
        if wanted.items() <= facts.items():
            spelled, written = pseudo, operands
            break
    if written is None:
        written = _BY_NAME.get(name, _BY_FORMAT[format_])
    text = "".join(_operand(letter, fields) for letter in written)
    return f"{spelled} {text}" if written else spelled, imm if "p" in written else None


def _suffix(name: str, word: int) -> str:
    """The part of a name that depends on the word: the ordering of an AMO, the number of a mop."""
    if name.startswith(("amo", "lr_", "sc_", "ssamoswap")):
        return _ORDER[word >> 25 & 3]
    if name == "mop_r":
        return f".{word >> 30 << 4 & 16 | word >> 24 & 12 | word >> 20 & 3}"
    if name == "mop_rr":
        return f".{word >> 28 & 4 | word >> 26 & 3}"
    return ""


def _operand(letter: str, fields: dict[str, int]) -> str:
    """d s t: rd, rs1, rs2. D S T R: these and rs3 as floating-point registers. i x u: the immediate
    in decimal, in hexadecimal, its upper 20 bits. p: a branch target, which the caller appends.
    c: a CSR. z: the number of rs1. f: the constant of fli. m: the rounding mode. F: the sets of a
    fence."""
    imm, word = fields["imm"], fields["word"]
    match letter:
        case "d" | "s" | "t":
            return _X[fields[{"d": "rd", "s": "rs1", "t": "rs2"}[letter]]]
        case "D" | "S" | "T" | "R":
            return _F[fields[{"D": "rd", "S": "rs1", "T": "rs2", "R": "rs3"}[letter]]]
        case "i":
            return str(imm)
        case "x":
            return hex(imm)
        case "u":
            return hex(imm >> 12 & 0xFFFFF)
        case "p":
            return ""
        case "c":
            return _CSR.get(imm, hex(imm))
        case "z":
            return str(fields["rs1"])
        case "f":
            return _CONSTANTS[fields["rs1"]]
        case "m":
            mode = _ROUNDING[word >> 12 & 7]
            return f",{mode}" if mode else ""
        case "F":
            sets = (word >> 24 & 15, word >> 20 & 15)
            return ",".join(_set(bits) for bits in sets)
    return letter


def _set(bits: int) -> str:
    return (
        "".join(c for c, bit in zip("iorw", (8, 4, 2, 1), strict=True) if bits & bit) or "unknown"
    )
