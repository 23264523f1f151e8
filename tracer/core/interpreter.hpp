// The loop that executes blocks: computed goto over the slots, one instance per tracing level.
//
// The budget is charged per block. A block longer than the remaining budget runs from a truncated
// copy. vocabulary.hpp and semantics.hpp define the terms of the semantics.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "address_space.hpp"
#include "csr.hpp"
#include "decode.hpp"
#include "fp/fp.hpp"
#include "hart.hpp"
#include "machine.hpp"
#include "native/engine.hpp"
#include "semantics.hpp"
#include "vector/execute.hpp"
#include "vocabulary.hpp"

namespace core {

// The levels. Each also records what the lower ones record.
constexpr unsigned level_none = 0;
constexpr unsigned level_cfi = trace_cfi;
constexpr unsigned level_flow = trace_cfi | trace_flow;
constexpr unsigned level_insn = trace_cfi | trace_flow | trace_insn;

struct Interruption {
    Stop stop = stop_budget;
    bool mid_block = false;
    const void* const* handlers = nullptr;
};

// Runs at most `budget` instructions from h.pc and advances machine.icount by those attempted. The
// tables must have room for `budget` rows. `resumed`: continue an interrupted block, without a flow
// row. Without a hart nothing runs; the result has the labels of the loop.
template <unsigned Level>
Interruption interpret(Hart* hart, AddressSpace* space, u64 budget, bool resumed, u32 tid, u32 mm);

extern template Interruption interpret<level_none>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_cfi>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_flow>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_insn>(Hart*, AddressSpace*, u64, bool, u32, u32);

// The block at pc, decoded if necessary; null with the exception in h.fault.
Block* find_block(Hart& h, AddressSpace& as, u64 pc);

// The same if the page is in the TLB and the block is decoded already; otherwise null.
inline Block* known_block(const Tlb& tlb, u64 pc) {
    const Tlb::Text& text = tlb.text[Tlb::index(pc)];
    if (UNLIKELY(text.tag != (pc & ~page_mask))) return nullptr;
    return text.page->entry[(pc & page_mask) / 2];
}

template <unsigned Level>
[[gnu::noinline]] NO_CLONE Interruption interpret(Hart* hart, AddressSpace* space, u64 budget,
                                                       bool resumed, u32 tid, u32 mm) {
    using namespace semantics;

    static const void* const label[op_count] = {
#define INSN(extension, name, ...) &&do_##name,
#include "isa/all.inc"
#define VINSN(...) &&do_vector,
#include "isa/vector.inc"
        &&do_illegal, &&do_fallthrough, &&do_pause, &&do_warm, &&do_native, &&do_break,
    };

    if (!hart) return {.handlers = label};

    Hart& h = *hart;
    AddressSpace& as = *space;
    Machine& m = *h.machine;
    Tlb& tlb = as.tlb;
    u64* const x = h.x;
    u64* const f = h.f;
    const bool lpe = h.lpe && m.extensions.has(Extension::Zicfilp);
    [[maybe_unused]] const bool flow = m.trace & trace_flow;  // optional at level_insn
    const u64 limit = m.icount + budget;  // icount when the budget is used up
    u64 left = budget;                    // budget not charged to the blocks entered so far
    u64 pc = h.pc;                        // valid between blocks only
    u64 base = pc;                        // start of the block
    Block* blk = nullptr;
    const Slot* ip = nullptr;
    Block** link = nullptr;  // where to store the next block
    Stop stop = stop_budget;
    bool mid_block = false;
    [[maybe_unused]] Memory memory;
    alignas(Block) unsigned char truncated[sizeof(Block) + max_block_instructions * sizeof(Slot)];

    static_cast<void>(tid), static_cast<void>(mm), static_cast<void>(resumed);
    if (lpe && h.elp) goto landing;

enter:
    blk = known_block(tlb, pc);
    if (UNLIKELY(!blk)) {
        if (left == 0) goto leave;
        blk = find_block(h, as, pc);
        if (!blk) goto fetch_fault;
    }
enter_block:
    if (UNLIKELY(left < blk->count)) goto enter_part;
    FLOW_ROW();
    left -= blk->count;
    base = pc;
    ip = blk->slots();
    goto* ip->handler;

enter_and_link: {
    if ((pc ^ base) & ~page_mask) goto enter;
    if (left == 0) goto leave;
    const u64 epoch = m.tlb_epoch;
    blk = find_block(h, as, pc);
    if (!blk) goto fetch_fault;
    const bool straddles = blk->page->entry[(pc & page_mask) / 2] != blk;
    // A new epoch may mean that all decoded text was reclaimed, including the block of `link`.
    if (!straddles && m.tlb_epoch == epoch) *link = blk;
    goto enter_block;
}

// A landing pad is expected at pc. "Above illegal instruction, below fetch faults" in priority.
landing:
    if (left == 0) goto leave;
    blk = known_block(tlb, pc);
    if (UNLIKELY(!blk)) blk = find_block(h, as, pc);
    if (!blk) goto fetch_fault;
    if (LIKELY(blk->info->op == op_lpad)) goto enter_block;
    h.fault.cause = cause_software_check;
    h.fault.tval = check_landing_pad;
    h.fault.word = blk->info->word;
    h.fault.expected = u32(x[7]) >> 12;
    h.fault.found = 0xffffffff;
    CFI_ROW_AT(limit - left + 1, pc, cfi_lpad, 0, h.fault.found, h.fault.expected, h.ssp, h.ssp,
               cause_software_check);
    --left;
    stop = stop_fault;
    goto leave;

// The budget ends within the block: run a copy of its first part.
enter_part: {
    if (left == 0) goto leave;
    FLOW_ROW();
    Block* const part = reinterpret_cast<Block*>(truncated);
    std::memcpy(truncated, blk, sizeof(Block) + left * sizeof(Slot));
    part->count = u32(left);
    if (part->slots()[0].handler != label[op_break])
        part->slots()[0].handler = label[part->info->op];
    part->slots()[left].handler = label[op_pause];
    blk = part;
    left = 0;
    base = pc;
    ip = blk->slots();
    goto* ip->handler;
}

#define INSN(extension, name, mask, match, format, ...) \
    do_##name : { __VA_ARGS__; }                        \
    NEXT();
#include "isa/all.inc"

do_vector: COLD_LABEL;
    if (!vector::execute(h, as, *ip, INFO.op)) goto memory_fault;
    ACCESSED(h.v.access.address, h.v.access.value, h.v.access.size);
    NEXT();
do_illegal:
    FAULT(cause_illegal, WORD);
do_fallthrough:
    pc = LINK;
    goto enter;
do_pause:
    pc = PC;
    mid_block = true;
    goto leave;

do_break: {
    const u64 before = limit - left - blk->count;
    if (before != m.pass_at && as.traps().breaks_at(base)) {
        m.noted = before;
        if (!m.noting) {
            left += blk->count;
            pc = base;
            stop = stop_trap;
            goto leave;
        }
    }
    goto* label[INFO.op];
}
do_warm:
    if ((Level & trace_insn) || ++blk->entries <= m.native_after ||
        !m.engine()->translate(h, *blk, base, Level))
        goto* label[INFO.op];
    blk->slots()->handler = label[op_native];
do_native: {
    if (blk->page->native_page != (base & ~page_mask)) goto* label[INFO.op];
    [[maybe_unused]] FlowTable& flow_table = m.tables.flow;
    native::Visit visit{&h, &as, left, limit, nullptr, nullptr};
    if constexpr (Level & trace_flow) {  // the table has no memory otherwise
        visit.flow_seq = flow_table.next<"seq">();
        visit.flow_block = flow_table.next<"block">();
    }
    m.engine()->run(visit, *blk, base);
    if constexpr (Level & trace_flow)
        flow_table.rows += u64(visit.flow_seq - flow_table.next<"seq">());
    left = visit.left;
    pc = visit.pc;
    if (visit.exit < native::Exit::interpret) goto enter;
    blk = visit.block;
    ip = visit.slot;
    base = blk->page->native_page + blk->offset;
    if (visit.exit == native::Exit::fault) goto memory_fault;
    if (visit.exit == native::Exit::stale) goto stale;
    goto* label[INFO.op];
}

// A store has dropped decoded text. If it was that of this block, decode the rest of it again.
stale: {
    const bool ours = m.is_stale(blk->page);
    if (!ours) {
        m.bury();
        NEXT();
    }
    RETIRE();
    left += blk->count - POSITION;
    pc = base + blk->info[POSITION].offset;
    m.bury();
    goto enter;
}

fetch_fault:
    --left;
    stop = stop_fault;
    goto leave;
memory_fault:
    h.fault.word = WORD;
    stop = stop_fault;
leave_at_ip:
    left += blk->count - POSITION;
    pc = PC;
leave:
    h.pc = pc;
    x[0] = 0;
    m.icount = limit - left;
    return {stop, mid_block, label};
}

}  // namespace core
