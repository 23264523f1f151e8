// Decodes words to slots: the operand formats and the instruction numbers.
#pragma once

#include "code.hpp"
#include "machine.hpp"
#include "types.hpp"
#include "vector/rows.hpp"

namespace core {

enum class Format : u8 {
    NONE,   // no operands
    END,    // no operands, and the block ends
    R,      // rd, rs1, rs2
    I,      // rd, rs1, imm
    SHIFT,  // rd, rs1, shamt
    S,      // rs1, rs2, imm; rs2 may be a floating-point register
    B,      // rs1, rs2, offset; the block ends
    U,      // rd, imm
    UPC,    // rd, imm, relative to the start of the block
    J,      // rd, offset; the block ends
    CSR,    // rd, rs1 or immediate, CSR number in imm
    FI,     // fd, rs1, imm
    FR,     // fd, integer or floating-point sources; imm = rm
    XR,     // rd, floating-point sources; imm = rm
    R4,     // fd, fs1, fs2, fs3; imm = rm

    // Vectors: imm = the word. Unless the row says otherwise, an operand v0.t may follow.
    VSETVLI,   // rd, rs1, vtype
    VSETIVLI,  // rd, uimm, vtype
    VSETVL,    // rd, rs1, rs2
    VL,        // vd, (rs1)
    VLX,       // vd, (rs1), rs2
    VLV,       // vd, (rs1), vs2
    VS,        // vs3, (rs1)
    VSX,       // vs3, (rs1), rs2
    VSV,       // vs3, (rs1), vs2
    VV,        // vd, vs2, vs1; multiply-adds: vd, vs1, vs2
    VX,        // vd, vs2, rs1
    VF,        // vd, vs2, fs1
    VI,        // vd, vs2, simm5
    VU,        // vd, vs2, uimm5
    VU6,       // vd, vs2, uimm6
    VVM,       // vd, vs2, vs1, v0
    VXM,       // vd, vs2, rs1, v0
    VIM,       // vd, vs2, simm5, v0
    VFM,       // vd, vs2, fs1, v0
    V0,        // vd
    V1,        // vd, vs1
    X1,        // vd, rs1
    I1,        // vd, simm5
    F1,        // vd, fs1
    V2,        // vd, vs2
    XV2,       // rd, vs2
    FV2,       // fd, vs2
};

enum Op : u16 {
#define INSN(extension, name, ...) op_##name,
#include "isa/all.inc"
#define VINSN(extension, name, ...) op_##name,
#include "isa/vector.inc"
    op_illegal,
    op_fallthrough,  // not an instruction: ends a block without a control transfer
    op_pause,        // not an instruction: ends the part of a block that the budget allows
    op_warm,         // not an instruction: counts the entries of a block until it is translated
    op_native,       // not an instruction: enters the native code of a block
    op_break,        // not an instruction: a trap may be set where the block begins
    op_count
};

constexpr Op op_first_vector = op_vsetvli;
constexpr u8 x0_sink = 32;  // the register that receives writes to x0

// The kind of register that an instruction writes: 'x', 'f', 'v' or 0.
extern const char destination[op_count];

// Sets the operands of the slot. `offset` is added to pc-relative immediates. A compressed word is
// 16 bits, zero-extended. op_illegal if there is no such instruction.
Op decode(const Extensions& extensions, u32 word, u16 offset, Slot& slot);
bool ends_block(u16 op);
// Whether the extensions have the instruction. op_illegal is always present: a reserved encoding is
// reserved with any extensions.
bool present(const Extensions& extensions, Op op);

inline bool is_compressed(u32 word) { return (word & 3) != 3; }

}  // namespace core
