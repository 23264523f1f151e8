// Families of rows: instructions that differ only in the source of an operand or in a width.
//   VINSN(extension, name, mask, match, format, semantics)
// is the row of a vector instruction, in isa/v_*.inc. funct6 and funct3 are the manual's; bit 25
// (vm) is free in the rows that may be masked.
#pragma once

#include "../types.hpp"

#define OP_V(funct6, funct3) (u32{0x57} | u32{funct6} << 26 | u32{funct3} << 12)
#define OP_V_VM1(funct6, funct3) (OP_V(funct6, funct3) | u32{1} << 25)
#define MASK_ANY_VM 0xfc00707f
#define MASK_VM 0xfe00707f
#define MASK_ANY_VM_UNARY 0xfc0ff07f  // the field of vs1 belongs to the opcode
#define MASK_VM_UNARY 0xfe0ff07f
#define MASK_VM_NO_VS2 0xfff0707f
#define VS1(n) (u32(n) << 15)

// One row. `run` is the macro of the semantics; its first argument is the source of the second
// operand.
#define OPIVV(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 0), VV, run(vector, __VA_ARGS__))
#define OPIVX(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 4), VX, run(scalar, __VA_ARGS__))
#define OPIVI(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 3), VI, run(immediate, __VA_ARGS__))
#define OPIVU(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 3), VU, run(unsigned_immediate, __VA_ARGS__))
#define OPMVV(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 2), VV, run(vector, __VA_ARGS__))
#define OPMVX(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 6), VX, run(scalar, __VA_ARGS__))
#define OPFVV(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 1), VV, run(vector, __VA_ARGS__))
#define OPFVF(name, funct6, run, ...) \
    VINSN(V, name, MASK_ANY_VM, OP_V(funct6, 5), VF, run(floating, __VA_ARGS__))

#define OPI_VX(name, ...) OPIVV(name##_vv, __VA_ARGS__) OPIVX(name##_vx, __VA_ARGS__)
#define OPI_XI(name, ...) OPIVX(name##_vx, __VA_ARGS__) OPIVI(name##_vi, __VA_ARGS__)
#define OPI_VXI(name, ...) OPI_VX(name, __VA_ARGS__) OPIVI(name##_vi, __VA_ARGS__)
#define OPI_VXU(name, ...) OPI_VX(name, __VA_ARGS__) OPIVU(name##_vi, __VA_ARGS__)
#define OPI_W_VXU(name, ...)      \
    OPIVV(name##_wv, __VA_ARGS__) \
    OPIVX(name##_wx, __VA_ARGS__) \
    OPIVU(name##_wi, __VA_ARGS__)
#define OPM_VX(name, ...) OPMVV(name##_vv, __VA_ARGS__) OPMVX(name##_vx, __VA_ARGS__)
#define OPM_W_VX(name, ...) OPMVV(name##_wv, __VA_ARGS__) OPMVX(name##_wx, __VA_ARGS__)
#define OPF_VF(name, ...) OPFVV(name##_vv, __VA_ARGS__) OPFVF(name##_vf, __VA_ARGS__)
#define OPF_W_VF(name, ...) OPFVV(name##_wv, __VA_ARGS__) OPFVF(name##_wf, __VA_ARGS__)

// With vm = 0, v0 is an operand: the carries, or the selection of a merge.
#define OPI_CARRY(suffix, name, funct6, funct3, format, ...) \
    VINSN(V, name##suffix, MASK_VM, OP_V(funct6, funct3), format, __VA_ARGS__)
#define OPI_CARRY_VX(name, funct6, run, ...)                        \
    OPI_CARRY(_vvm, name, funct6, 0, VVM, run(vector, __VA_ARGS__)) \
    OPI_CARRY(_vxm, name, funct6, 4, VXM, run(scalar, __VA_ARGS__))
#define OPI_CARRY_VXI(name, funct6, run, ...)    \
    OPI_CARRY_VX(name, funct6, run, __VA_ARGS__) \
    OPI_CARRY(_vim, name, funct6, 3, VIM, run(immediate, __VA_ARGS__))
#define OPI_PLAIN(suffix, name, funct6, funct3, format, ...) \
    VINSN(V, name##suffix, MASK_VM, OP_V_VM1(funct6, funct3), format, __VA_ARGS__)
#define OPI_PLAIN_VX(name, funct6, run, ...)                      \
    OPI_PLAIN(_vv, name, funct6, 0, VV, run(vector, __VA_ARGS__)) \
    OPI_PLAIN(_vx, name, funct6, 4, VX, run(scalar, __VA_ARGS__))
#define OPI_PLAIN_VXI(name, funct6, run, ...)    \
    OPI_PLAIN_VX(name, funct6, run, __VA_ARGS__) \
    OPI_PLAIN(_vi, name, funct6, 3, VI, run(immediate, __VA_ARGS__))

// The opcode continues in the vs1 field.
#define OPM_UNARY(extension, name, funct6, vs1, format, ...) \
    VINSN(extension, name, MASK_ANY_VM_UNARY, OP_V(funct6, 2) | VS1(vs1), format, __VA_ARGS__)
#define OPF_UNARY(name, funct6, vs1, ...) \
    VINSN(V, name, MASK_ANY_VM_UNARY, OP_V(funct6, 1) | VS1(vs1), V2, __VA_ARGS__)

// Memory: the width field (funct3) of each EEW; one row per number of fields, which is nf + 1.
#define EACH_WIDTH(row) row(8, 0) row(16, 5) row(32, 6) row(64, 7)
#define EACH_SEGMENT(row, ...)                                                      \
    row(2, __VA_ARGS__) row(3, __VA_ARGS__) row(4, __VA_ARGS__) row(5, __VA_ARGS__) \
        row(6, __VA_ARGS__) row(7, __VA_ARGS__) row(8, __VA_ARGS__)
#define MEMORY_WORD(opcode, nf, mop, funct3) \
    (u32{opcode} | u32((nf) - 1) << 29 | u32{mop} << 26 | u32{funct3} << 12)
