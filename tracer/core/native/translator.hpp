// Writes the native code of one block.
#pragma once

#include <vector>

#include "engine.hpp"
#include "registers.hpp"

namespace core::native {

// The most code that a block takes, and an instruction of it.
constexpr std::size_t block_bytes = 512, instruction_bytes = 320;
constexpr u32 never = ~u32{0};  // a serial number that no page has

class Translator {
  public:
    Translator(Engine& engine, const Hart& h, Block& block, u64 pc, unsigned level)
        : engine_(engine), machine_(*h.machine), block_(block), pc_(pc), level_(level),
          a{engine.next_} {}

    void translate();

  private:
    // What follows the code of the block: the way out, for a place in it.
    struct Way {
        Exit exit;      // none: call the function of the row, and return to `back`
        u8* from;       // the jump that leads here
        u64 where = 0;  // for interpret and row: the slot, for others: the pc
        u8* back = nullptr;
    };

    void enter();
    void instruction();
    void write(const Way& way);
    void name_slot();
    void row();
    void interpret();

    // Guest registers. A result is computed in result() and then set.
    Operand place(u8 x) const { return is_held(x) ? Operand(host_of(x)) : in_memory(x); }
    static Operand place_f(u8 f) { return in_hart(offsetof(Hart, f) + f * sizeof(u64)); }
    static Operand upper_half(u8 f) { return in_hart(offsetof(Hart, f) + f * sizeof(u64) + 4); }
    Reg value(u8 x, Reg scratch);
    Reg result(u8 not_this = x0_sink) const;
    void set(Reg from, bool w = wide);
    void set_constant(u64 value);

    // By kind of instruction.
    void binary(Alu op, bool w = wide);
    void binary_immediate(Alu op, bool w = wide);
    void shift(Shift op, bool w = wide);
    void shift_immediate(Shift op, bool w = wide);
    void rotate(Shift op, bool w = wide);
    void compare(u8 rs1, u8 rs2);
    void set_if(Condition condition);
    void extreme(Condition keeps_first);
    void multiply(bool w = wide);
    void multiply_high(Unary op);
    void divide(bool is_signed, Reg answer, bool w = wide);
    void shift_add(u8 count, bool unsigned_word);
    void count(u8 opcode, bool w = wide);
    void extend(u8 size, bool sign);
    void with_complement(Alu op);
    void bit(BitTest op, bool immediate);
    void extract_bit(bool immediate);
    void keep_if(Condition condition);

    // Memory. The result of access() does not need rcx.
    Operand access(std::size_t entries, u8 size);
    void find_entry(std::size_t entries, std::size_t size, const Operand& last);
    void load(u8 size, bool sign);
    void load_f(u8 size);
    void store(u8 size);
    void store_f(u8 size);

    void push_shadow();
    void pop_shadow();

    // Floating point (translator_float.cpp).
    bool rounds_to_nearest();
    void is_inexact_already();
    void unbox(u8 f);
    void load_xmm(Xmm to, u8 f, bool single);
    void exponent(bool single, bool with_sign);
    void set_xmm(bool single, bool finite);
    void set_f(bool single);
    void arithmetic(u8 opcode, bool single);
    void square_root(bool single);
    void multiply_add(u8 opcode, bool single);
    void compare_f(u8 first, u8 second, Condition condition, bool single);
    void sign(Op move, Op negate, bool single);
    void to_integer(bool w, bool single);
    void from_integer(bool w, bool single);

    void branch(Condition condition);
    void jump_register();
    void link(u8* site, u64 target);
    void go(u64 target);
    // A case that the row's function executes.
    void rare(u8* from) { ways_.push_back({Exit::none, from, k_}); }

    Engine& engine_;
    const Machine& machine_;
    Block& block_;
    const u64 pc_;
    const unsigned level_;
    Assembler a;
    u32 k_ = 0;  // the instruction that is being translated
    Slot s_;
    std::vector<Way> ways_;
};

}  // namespace core::native
