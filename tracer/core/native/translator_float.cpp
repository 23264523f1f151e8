// Floating point by the host's instructions, where they give the result and the flags that RISC-V
// requires. fp/host.hpp has the conditions: the inexact flag is set already, the rounding mode is
// to nearest, even, and the result is ordinary. Otherwise the function of the row decides.
#include "../decode.hpp"
#include "../fp/fp.hpp"
#include "translator.hpp"

namespace core::native {

namespace {

constexpr i32 round_nearest = fp::rne, round_to_zero = fp::rtz, round_as_frm = 7;

// The prefix of a scalar instruction.
constexpr u8 prefix(bool single) { return single ? 0xf3 : 0xf2; }

}  // namespace

// Whether the instruction may round to nearest, even. Emits the condition on frm.
bool Translator::rounds_to_nearest() {
    if (s_.imm != round_nearest && s_.imm != round_as_frm) return false;
    if (s_.imm == round_as_frm) {
        a.alu_constant(alu_cmp, in_hart(offsetof(Hart, frm)), 0, narrow);
        rare(a.jump_if(not_equal));
    }
    return true;
}

void Translator::is_inexact_already() {
    a.test_byte(in_hart(offsetof(Hart, fflags)), fp::nx);
    rare(a.jump_if(equal));
}

// A single that is not boxed is a NaN.
void Translator::unbox(u8 f) {
    a.alu_constant(alu_cmp, upper_half(f), -1, narrow);
    rare(a.jump_if(not_equal));
}

void Translator::load_xmm(Xmm to, u8 f, bool single) {
    if (single) unbox(f);
    a.emit(prefix(single), narrow, 0x0f10, to, place_f(f));
}

// rcx = the exponent of the number in rax, with the sign above it unless that was shifted out.
void Translator::exponent(bool single, bool with_sign) {
    a.mov(rcx, rax, !single);
    if (!with_sign) a.alu(alu_add, rcx, rcx, !single);
    a.shift(shift_shr, rcx, (single ? 23 : 52) + !with_sign, !single);
}

// Stores xmm0 if it is `finite`, or ordinary.
void Translator::set_xmm(bool single, bool finite) {
    a.emit(0x66, !single, 0x0f7e, xmm0, rax);
    exponent(single, false);
    const i32 infinity = single ? 0xff : 0x7ff;
    if (finite) {
        a.alu_constant(alu_cmp, rcx, infinity, narrow);
        rare(a.jump_if(equal));
    } else {
        a.alu_constant(alu_sub, rcx, 2, narrow);
        a.alu_constant(alu_cmp, rcx, infinity - 2, narrow);
        rare(a.jump_if(not_below));
    }
    set_f(single);
}

void Translator::set_f(bool single) {
    a.put(place_f(s_.rd), rax, !single);
    if (single) a.store(upper_half(s_.rd), -1, 4);
}

// 0F 58, 59, 5C, 5E: add, mul, sub, div.
void Translator::arithmetic(u8 opcode, bool single) {
    if (!rounds_to_nearest()) return row();
    is_inexact_already();
    load_xmm(xmm0, s_.rs1, single);
    if (single) unbox(s_.rs2);
    a.emit(prefix(single), narrow, 0x0f00 + opcode, xmm0, place_f(s_.rs2));
    set_xmm(single, opcode == 0x58 || opcode == 0x5c);
}

// Of a normal number.
void Translator::square_root(bool single) {
    if (!rounds_to_nearest()) return row();
    is_inexact_already();
    if (single) unbox(s_.rs1);
    a.mov(rax, place_f(s_.rs1), !single);
    exponent(single, true);
    a.alu_constant(alu_sub, rcx, 1, narrow);
    a.alu_constant(alu_cmp, rcx, single ? 0xfe : 0x7fe, narrow);
    rare(a.jump_if(not_below));
    a.emit(prefix(single), narrow, 0x0f51, xmm0, place_f(s_.rs1));
    a.emit(0x66, !single, 0x0f7e, xmm0, rax);
    set_f(single);
}

// VEX.0F38 A9, AB, AD, AF: fmadd, fmsub, fnmadd, fnmsub of x86, which negates the product alone.
void Translator::multiply_add(u8 opcode, bool single) {
    if (!rounds_to_nearest()) return row();
    is_inexact_already();
    load_xmm(xmm0, s_.rs1, single);
    load_xmm(xmm1, s_.rs2, single);
    if (single) unbox(s_.rs3);
    a.vex(2, 1, !single, opcode, xmm0, xmm1, place_f(s_.rs3));
    set_xmm(single, false);
}

// `first` compared with `second`; NaNs are rare.
void Translator::compare_f(u8 first, u8 second, Condition condition, bool single) {
    load_xmm(xmm0, first, single);
    if (single) unbox(second);
    a.emit(single ? 0 : 0x66, narrow, 0x0f2e, xmm0, place_f(second));
    rare(a.jump_if(parity));
    set_if(condition);
}

// fsgnj and its relatives with one operand: move, negation, absolute value.
void Translator::sign(Op move, Op negate, bool single) {
    const u16 op = block_.info[k_].op;
    if (s_.rs1 != s_.rs2) return row();
    if (single) unbox(s_.rs1);
    a.mov(rax, place_f(s_.rs1), !single);
    if (op != move) a.bit(op == negate ? bit_complement : bit_reset, rax, single ? 31 : 63);
    set_f(single);
}

void Translator::to_integer(bool w, bool single) {
    if (s_.imm != round_to_zero) return row();
    is_inexact_already();
    if (single) unbox(s_.rs1);
    a.emit(prefix(single), wide, 0x0f2c, rax, place_f(s_.rs1));
    // The least number also means that there is no such integer.
    a.alu_constant(alu_cmp, rax, 1);
    rare(a.jump_if(overflow));
    if (!w) {
        a.load(rcx, rax, 4, true);
        a.alu(alu_cmp, rcx, rax);
        rare(a.jump_if(not_equal));
    }
    set(rax);
}

void Translator::from_integer(bool w, bool single) {
    if (!rounds_to_nearest()) return row();
    if (w || single) is_inexact_already();
    a.emit(0, narrow, 0x0f57, xmm0, xmm0);  // or the instruction waits for its old value
    a.emit(prefix(single), w, 0x0f2a, xmm0, place(s_.rs1));
    a.emit(0x66, !single, 0x0f7e, xmm0, rax);
    set_f(single);
}

}  // namespace core::native
