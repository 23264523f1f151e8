// Decoded text: slots (one per instruction), blocks, and the blocks of one page frame.
//
// A block starts at any entry point and ends after a control transfer or before the end of the
// page, never elsewhere, so that the rest of a preempted block ends where the block ends.
// Slots hold no absolute address, because address spaces share frames.
#pragma once

#include <cstdlib>
#include <memory>

#include "types.hpp"

namespace core {

struct Frame;
struct CodePage;

// The part of an instruction that its execution needs; Info is the rest.
struct Slot {
    const void* handler;  // a label of the loop for the machine's tracing level
    i32 imm;              // a pc-relative one is relative to the start of the block
    u8 rd;                // integer destination x0 is redirected to x[32]
    u8 rs1;
    u8 rs2;
    u8 rs3;
};
static_assert(sizeof(Slot) == 16);

struct Info {
    u32 word;  // 16 bits zero-extended for compressed instructions
    u16 op;
    u16 offset;  // from the start of the block, in bytes
};

struct Block {
    CodePage* page;
    const Info* info;        // of each slot
    Block* taken = nullptr;  // successors within the same page, once known
    Block* next = nullptr;
    u32 count;        // instructions; one more slot ends a block without a control transfer
    u32 length;       // bytes
    u32 flow_id = 0;  // row of the code table for the entry at flow_pc; 0 = none yet
    u32 offset = 0;   // in the page
    u64 flow_pc = 0;
    // Native code (native/), which counts the entries until there is some.
    const u8* native = nullptr;
    const u8* native_body = nullptr;  // after the budget was charged
    u64 entries = 0;

    Slot* slots() { return reinterpret_cast<Slot*>(this + 1); }
    const Slot* slots() const { return reinterpret_cast<const Slot*>(this + 1); }
};
static_assert(sizeof(Block) % alignof(Slot) == 0);

constexpr u32 max_block_instructions = page_size / 2;
constexpr u32 halfwords_per_page = page_size / 2;

// A block while it is decoded.
struct Draft {
    u32 count = 0;
    u32 length = 0;
    bool ended = false;  // by a control transfer
    Slot slots[max_block_instructions + 1];
    Info info[max_block_instructions + 1];
};

struct CodePage {
    explicit CodePage(Frame* frame) : frame(frame) {}
    CodePage(const CodePage&) = delete;
    CodePage& operator=(const CodePage&) = delete;
    ~CodePage() {
        for (Block* block : entry) std::free(block);
        std::free(straddling);
    }

    Frame* frame;
    std::size_t index = 0;  // in Machine::code_pages
    std::size_t bytes = 0;  // of its blocks
    Block* entry[halfwords_per_page] = {};
    Block* straddling = nullptr;  // never in `entry`: its second half may change

    // Native code: by halfword, for the page at one address. No other page ever has the number.
    std::unique_ptr<const u8*[]> native;
    u64 native_page = 0;
    u32 native_serial = 0;
};

}  // namespace core
