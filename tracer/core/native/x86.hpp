// An assembler for the x86-64 instructions that the translator emits. Level x86-64-v3 (BMI2, FMA).
#pragma once

#include <cstring>

#include "../types.hpp"

namespace core::native {

enum Reg : u8 { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };
enum Xmm : u8 { xmm0, xmm1, xmm2 };

// A register or [base + index + disp] as the operand that ModRM describes.
struct Operand {
    static constexpr u8 none = 16;

    u8 base;
    u8 index = none;
    i32 disp = 0;
    bool memory = true;
    u8 scale = 0;  // the index is multiplied by 2 to the power of this

    Operand(Reg reg) : base(reg), memory(false) {}
    Operand(Xmm reg) : base(reg), memory(false) {}
    Operand(Reg base, i32 disp) : base(base), disp(disp) {}
    Operand(Reg base, Reg index, i32 disp, u8 scale = 0)
        : base(base), index(index), disp(disp), scale(scale) {}
};

// The operations of opcode group 1, by number.
enum Alu : u8 { alu_add, alu_or, alu_adc, alu_sbb, alu_and, alu_sub, alu_xor, alu_cmp };
// Of group 2, shifts by a constant, and BMI2's shifts by a register.
enum Shift : u8 { shift_rol = 0, shift_ror = 1, shift_shl = 4, shift_shr = 5, shift_sar = 7 };
// Of group 3, on one operand.
enum Unary : u8 { unary_not = 2, unary_neg, unary_mul, unary_imul, unary_div, unary_idiv };
enum Condition : u8 {
    overflow,
    below = 2,
    not_below,
    equal,
    not_equal,
    not_above,
    above,
    parity = 10,
    less = 12,
    not_less,
    not_greater,
    greater
};

// Of opcode group 8.
enum BitTest : u8 { bit_set = 5, bit_reset, bit_complement };

constexpr bool wide = true, narrow = false;

class Assembler {
  public:
    u8* at = nullptr;

    void byte(unsigned value) { *at++ = u8(value); }
    void dword(u32 value) { put(value); }
    void qword(u64 value) { put(value); }

    // prefix (0: none), opcode of one to three bytes, register field, operand. `low`: an operand is
    // an 8-bit register, which needs a REX prefix from 4 on.
    void emit(u8 prefix, bool w, u32 opcode, u8 reg, const Operand& rm, bool low = false) {
        if (prefix) byte(prefix);
        const u8 index = rm.index == Operand::none ? 0 : rm.index;
        const u8 rex = u8(w << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | rm.base >> 3);
        if (rex || low) byte(0x40 | rex);
        if (opcode > 0xffff) byte(opcode >> 16);
        if (opcode > 0xff) byte(opcode >> 8);
        byte(opcode);
        modrm(reg, rm);
    }
    // The same with a VEX prefix: map 1..3 = 0F, 0F38, 0F3A; pp 0..3 = none, 66, F3, F2.
    void vex(u8 map, u8 pp, bool w, u8 opcode, u8 reg, u8 second, const Operand& rm) {
        const u8 index = rm.index == Operand::none ? 0 : rm.index;
        byte(0xc4);
        byte(u8(~reg >> 3 & 1) << 7 | u8(~index >> 3 & 1) << 6 | u8(~rm.base >> 3 & 1) << 5 | map);
        byte(w << 7 | (~second & 15) << 3 | pp);
        byte(opcode);
        modrm(reg, rm);
    }

    void mov(Reg to, const Operand& from, bool w = wide) {
        if (from.memory || from.base != to || !w) emit(0, w, 0x8b, to, from);
    }
    void put(const Operand& to, Reg from, bool w = wide) {
        if (to.memory || to.base != from || !w) emit(0, w, 0x89, from, to);
    }
    // Leaves the flags alone.
    void constant(Reg to, u64 value) {
        if (value <= 0xffffffff) {
            if (to >> 3) byte(0x41);
            byte(0xb8 | (to & 7));
            dword(u32(value));
        } else if (i64(value) == i32(value)) {
            emit(0, wide, 0xc7, 0, to);
            dword(u32(value));
        } else {
            byte(0x48 | to >> 3);
            byte(0xb8 | (to & 7));
            qword(value);
        }
    }
    // A sign-extended immediate to memory.
    void store(const Operand& to, i32 value, u8 size) {
        if (size == 2) byte(0x66);
        emit(0, size == 8, size == 1 ? 0xc6 : 0xc7, 0, to);
        immediate(value, size > 4 ? 4 : size);
    }
    void store(const Operand& to, Reg from, u8 size) {
        emit(size == 2 ? 0x66 : 0, size == 8, size == 1 ? 0x88 : 0x89, from, to, size == 1);
    }
    // An access of 1 to 8 bytes, extended to 64 bits.
    void load(Reg to, const Operand& from, u8 size, bool sign) {
        if (size == 8) return emit(0, wide, 0x8b, to, from);
        if (size == 4)
            return sign ? emit(0, wide, 0x63, to, from) : emit(0, narrow, 0x8b, to, from);
        emit(0, sign, (sign ? 0x0fbe : 0x0fb6) + (size == 2), to, from, size == 1 && !from.memory);
    }
    void lea(Reg to, const Operand& from, bool w = wide) { emit(0, w, 0x8d, to, from); }

    void alu(Alu op, Reg to, const Operand& from, bool w = wide) {
        emit(0, w, u32(op) << 3 | 3, to, from);
    }
    void alu_to(Alu op, const Operand& to, Reg from, bool w = wide) {
        emit(0, w, u32(op) << 3 | 1, from, to);
    }
    void alu_constant(Alu op, const Operand& to, i32 value, bool w = wide) {
        const bool small = value == i8(value);
        emit(0, w, small ? 0x83 : 0x81, op, to);
        immediate(value, small ? 1 : 4);
    }
    // With an immediate of four bytes in any case.
    void compare_dword(const Operand& with, u32 value) {
        emit(0, narrow, 0x81, alu_cmp, with);
        dword(value);
    }
    void compare_byte(const Operand& with, u8 value) {
        emit(0, narrow, 0x80, alu_cmp, with);
        byte(value);
    }
    void test_byte(const Operand& with, u8 value) {
        emit(0, narrow, 0xf6, 0, with);
        byte(value);
    }
    void test(Reg a, Reg b, bool w = wide) { emit(0, w, 0x85, a, b); }
    void unary(Unary op, const Operand& on, bool w = wide) { emit(0, w, 0xf7, op, on); }
    void multiply(Reg to, const Operand& by, bool w = wide) { emit(0, w, 0x0faf, to, by); }
    void shift(Shift op, const Operand& on, unsigned count, bool w = wide) {
        emit(0, w, 0xc1, op, on);
        byte(count);
    }
    // shlx, shrx, sarx
    void shift_by(Shift op, Reg to, const Operand& from, Reg count, bool w = wide) {
        vex(2, op == shift_shl ? 1 : op == shift_shr ? 3 : 2, w, 0xf7, to, count, from);
    }
    void rotate_by_cl(Shift op, const Operand& on, bool w = wide) { emit(0, w, 0xd3, op, on); }
    void set(Condition condition, Reg to) {
        emit(0, narrow, 0x0f90 + condition, 0, to, true);
        emit(0, narrow, 0x0fb6, to, to, true);
    }
    void move_if(Condition condition, Reg to, const Operand& from) {
        emit(0, wide, 0x0f40 + condition, to, from);
    }
    // F3 0F B8, BC, BD: popcnt, tzcnt, lzcnt.
    void count(u8 opcode, Reg to, const Operand& from, bool w) {
        emit(0xf3, w, 0x0f00 + opcode, to, from);
    }
    void bit(BitTest op, Reg on, unsigned number) {
        emit(0, wide, 0x0fba, op, on);
        byte(number);
    }
    void bit_by(BitTest op, Reg on, Reg number) { emit(0, wide, 0x0f83 | op << 3, number, on); }
    // cqo or cdq: the sign of rax to rdx.
    void extend_rax(bool w) {
        if (w) byte(0x48);
        byte(0x99);
    }
    void swap_bytes(Reg reg) {
        byte(0x48 | reg >> 3);
        byte(0x0f);
        byte(0xc8 | (reg & 7));
    }

    void push(Reg reg) {
        if (reg >> 3) byte(0x41);
        byte(0x50 | (reg & 7));
    }
    void pop(Reg reg) {
        if (reg >> 3) byte(0x41);
        byte(0x58 | (reg & 7));
    }
    void ret() { byte(0xc3); }
    void call(const Operand& target) { emit(0, narrow, 0xff, 2, target); }
    void jump(const Operand& target) { emit(0, narrow, 0xff, 4, target); }
    // A jump or call within the code. The result is the place of the displacement, for `bind`.
    u8* jump(const u8* target = nullptr) { return relative(0xe9, target); }
    u8* call(const u8* target) { return relative(0xe8, target); }
    u8* jump_if(Condition condition, const u8* target = nullptr) {
        byte(0x0f);
        return relative(0x80 | condition, target);
    }
    static void bind(u8* place, const u8* target) {
        const i32 distance = i32(target - (place + 4));
        std::memcpy(place, &distance, 4);
    }

  private:
    template <class T>
    void put(T value) {
        std::memcpy(at, &value, sizeof value);
        at += sizeof value;
    }
    void immediate(i32 value, u8 size) {
        std::memcpy(at, &value, size);
        at += size;
    }
    u8* relative(u8 opcode, const u8* target) {
        byte(opcode);
        u8* const place = at;
        dword(0);
        if (target) bind(place, target);
        return place;
    }
    void modrm(u8 reg, const Operand& rm) {
        const u8 field = u8((reg & 7) << 3);
        if (!rm.memory) return byte(0xc0 | field | (rm.base & 7));
        const bool sib = rm.index != Operand::none || (rm.base & 7) == rsp;
        // Mod 0 means something else with rbp and r13.
        const u8 mod = rm.disp == 0 && (rm.base & 7) != rbp ? 0 : rm.disp == i8(rm.disp) ? 1 : 2;
        byte(mod << 6 | field | (sib ? 4 : rm.base & 7));
        if (sib)
            byte(rm.scale << 6 | (rm.index == Operand::none ? 4 : rm.index & 7) << 3 |
                 (rm.base & 7));
        if (mod == 1) byte(u8(rm.disp));
        if (mod == 2) dword(u32(rm.disp));
    }
};

}  // namespace core::native
