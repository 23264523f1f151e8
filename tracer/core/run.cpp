#include "run.hpp"

#include <cstring>
#include <stdexcept>

#include "interpreter.hpp"

namespace core {

Block* find_block(Hart& h, AddressSpace& as, u64 pc) {
    Machine& m = *h.machine;
    if (m.reclaim_code()) as.synchronize();
    const auto fetch = [&](u64 address) {
        const Tlb::Text& text = as.tlb.text[Tlb::index(address)];
        if (text.tag == (address & ~page_mask)) return text.page;
        Fault fault;
        CodePage* page = as.executable(address, fault);
        if (!page) {
            h.fault = fault;
            h.fault.address = address;
        }
        return page;
    };

    CodePage* page = fetch(pc);
    if (!page) return nullptr;
    const u32 offset = u32(pc & page_mask);
    if (Block* known = page->entry[offset / 2]) return known;
    if (Block* block = m.block_at(*page, offset)) return block;

    CodePage* second = fetch(pc + 2);
    if (!second) return nullptr;
    u16 halves[2];
    std::memcpy(&halves[0], page->frame->bytes + offset, 2);
    std::memcpy(&halves[1], second->frame->bytes, 2);
    return m.straddling_block(*page, halves[0] | u32{halves[1]} << 16);
}

namespace {

class Running {
  public:
    explicit Running(Machine& machine) : machine_(machine) {
        if (machine_.running.exchange(true))
            throw std::runtime_error("the machine is already running");
    }
    ~Running() { machine_.running = false; }

  private:
    Machine& machine_;
};

unsigned level_of(unsigned trace) {
    if (trace & trace_insn) return level_insn;
    if (trace & trace_flow) return level_flow;
    return trace ? level_cfi : level_none;
}

using Loop = Interruption (*)(Hart*, AddressSpace*, u64, bool, u32, u32);

Loop loop_of(unsigned level) {
    switch (level) {
        case level_none: return interpret<level_none>;
        case level_cfi: return interpret<level_cfi>;
        case level_flow: return interpret<level_flow>;
        default: return interpret<level_insn>;
    }
}

// f(table, its bit of Trace) for the tables that a level writes.
template <class F>
void each_table(Tables& tables, unsigned level, F&& f) {
    tables.each_fixed([&](const char*, auto& table, Trace bit) {
        if (level & bit) f(table, bit);
    });
}

}  // namespace

Stop run(Hart& h, AddressSpace& as, u64 budget, u32 tid, u32 mm) {
    Machine& m = *h.machine;
    if (as.machine.get() != &m)
        throw std::invalid_argument("hart and space belong to different machines");
    const Running guard(m);
    const unsigned level = level_of(m.trace);
    each_table(m.tables, level, [](auto& table, Trace) { table.prepare(); });
    m.bury();
    m.reclaim_code();
    const Loop loop = loop_of(level);
    m.use_handlers(loop(nullptr, nullptr, 0, false, 0, 0).handlers);
    as.synchronize();
    as.ignore_upper(h.pmlen);
    h.fault = {};

    while (true) {
        u64 room = m.pass_access ? std::min<u64>(budget, 1) : budget;
        each_table(m.tables, level,
                   [&](auto& table, Trace) { room = std::min(room, table.free()); });
        if (room < budget && room < max_block_instructions && !m.pass_access) return stop_flush;
        const bool resumed = m.interrupted.hart == h.id && m.interrupted.space == as.id &&
                             m.interrupted.pc == h.pc && m.interrupted.icount == m.icount;
        const u64 start = m.icount;
        Interruption end = loop(&h, &as, room, resumed, tid, mm);
        if (end.stop == stop_fault && h.fault.cause == cause_trap) {
            end.stop = stop_trap;
            m.noted = --m.icount;
        }
        budget -= m.icount - start;
        m.pass_access = false;
        m.interrupted = {};
        if (end.mid_block || (resumed && m.icount == start))
            m.interrupted = {h.id, as.id, h.pc, m.icount};
        each_table(m.tables, level, [&](auto& table, Trace bit) {
            if (!(m.trace & bit)) table.rows = table.stamped;
            table.stamp(tid, mm);
        });
        if (end.stop == stop_trap) {
            if (!m.noting) return stop_trap;
            m.pass_access = true;
            m.bury();
            continue;
        }
        if (end.stop != stop_fault) h.fault = {};  // slow paths may have written to it
        if (end.stop != stop_budget || budget == 0) return end.stop;
    }
}

}  // namespace core
