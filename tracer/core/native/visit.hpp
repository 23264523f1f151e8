// What the interpreter and native code tell each other about one stay in native code.
#pragma once

#include "../address_space.hpp"
#include "../decode.hpp"
#include "../hart.hpp"

namespace core::native {

// Why native code was left.
enum class Exit : u64 {
    none,
    budget,     // at the start of a block, whose address is pc, and which has more instructions
    jump,       // at the start of a block, whose address is pc
    link,       // the same; the jump at `site` may go there next time
    far_link,   // the same, to another page
    interpret,  // at the instruction `slot` of `block`, to which the budget is charged
    fault,      // the same; its exception is in the hart's `fault`
    stale,      // after `slot`, which has changed the text of `block`
};

struct Visit {
    Hart* hart;
    AddressSpace* space;
    u64 left;  // as in interpret()
    u64 limit;
    u64* flow_seq;  // of the next row
    u32* flow_block;
    Exit exit = Exit::none;
    u64 pc = 0;
    Block* block = nullptr;
    const Slot* slot = nullptr;
    u8* site = nullptr;
};

// An instruction as a function. Exit::none: it is done, otherwise interpret, fault or stale.
using Row = Exit (*)(Visit& visit, Block* block, const Slot* slot, u64 left);

// The functions by Op, for levels without and with cfi rows.
extern const Row rows[2][op_count];

}  // namespace core::native
