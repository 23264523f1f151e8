// The loop that executes blocks: computed goto over the slots, one instance per tracing level.
//
// The budget is taken per block; a block longer than what is left is run from a truncated copy. What
// the semantics of isa/*.inc are written in is defined here:
//   RD RS1 RS2 IMM SHAMT PC        operands of the instruction at ip; BASE LINK: of its block
//   FD S1..S3 D1..D3 FL            floating-point operands and flags
//   LOAD STORE AMO ...             memory; on a fault they leave for memory_fault
//   BRANCH JUMP JUMP_REGISTER      leave for the next block
//   FAULT ECALL                    leave the loop
//   CFI CFI_ROW CFI_FAULT          a row of the cfi table, at levels that record it
#pragma once

#include <algorithm>
#include <cstring>

#include "address_space.hpp"
#include "csr.hpp"
#include "decode.hpp"
#include "fp/fp.hpp"
#include "hart.hpp"
#include "machine.hpp"

namespace core {

// The levels: each includes what the ones below record.
constexpr unsigned level_none = 0;
constexpr unsigned level_cfi = trace_cfi;
constexpr unsigned level_flow = trace_cfi | trace_flow;
constexpr unsigned level_insn = trace_cfi | trace_flow | trace_insn;

struct Interruption {
    Stop stop = stop_budget;
    bool mid_block = false;
    const void* const* handlers = nullptr;
};

// Runs at most `budget` instructions from h.pc; advances machine.icount by those attempted. The
// tables must have room for `budget` rows. `resumed`: the rest of an interrupted block, no flow row.
// Without a hart nothing runs, and the loop's labels come back.
template <unsigned Level>
Interruption interpret(Hart* hart, AddressSpace* space, u64 budget, bool resumed, u32 tid, u32 mm);

extern template Interruption interpret<level_none>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_cfi>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_flow>(Hart*, AddressSpace*, u64, bool, u32, u32);
extern template Interruption interpret<level_insn>(Hart*, AddressSpace*, u64, bool, u32, u32);

// The block at pc, decoded if need be; null with the exception in h.fault.
Block* find_block(Hart& h, AddressSpace& as, u64 pc);

namespace semantics {

template <class T>
T peek(u64 host) {
    T value;
    std::memcpy(&value, reinterpret_cast<const void*>(host), sizeof value);
    return value;
}

template <class T>
void poke(u64 host, T value) {
    std::memcpy(reinterpret_cast<void*>(host), &value, sizeof value);
}

// The slow path of a load: any alignment, any page.
[[gnu::noinline]] inline bool load(Hart& h, AddressSpace& as, u64 address, unsigned size, u64& bits) {
    if (as.load(address, size, bits, h.fault)) return true;
    h.fault.address = address;
    return false;
}

[[gnu::noinline]] inline bool store(Hart& h, AddressSpace& as, u64 address, unsigned size, u64 bits) {
    if (as.store(address, size, bits, h.fault)) return true;
    h.fault.address = address;
    return false;
}

// The host's address of a naturally aligned word; null with the exception in h.fault.
template <Access access>
[[gnu::noinline]] u8* find_word(Hart& h, AddressSpace& as, u64 address, unsigned size) {
    u8* word = access == Access::load ? const_cast<u8*>(as.loadable(address, h.fault))
                                      : as.storable(address, access, h.fault);
    if (word && address % size) {
        h.fault.cause = access == Access::load ? cause_load_access : cause_store_access;
        word = nullptr;
    }
    if (!word) h.fault.address = address;
    return word;
}

template <class T, Access access>
T* word(Hart& h, AddressSpace& as, u64 address) {
    const Tlb::Data* const entries = access == Access::load    ? as.tlb.load
                                     : access == Access::store ? as.tlb.store
                                                               : as.tlb.shadow;
    const Tlb::Data& entry = entries[Tlb::index(address)];
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address)))
        return reinterpret_cast<T*>(entry.addend + address);
    return reinterpret_cast<T*>(find_word<access>(h, as, address, sizeof(T)));
}

template <class T>
T divide(T dividend, T divisor) {
    if (divisor == 0) return T(-1);
    if (divisor == T(-1)) return T(T(0) - std::make_unsigned_t<T>(dividend));
    return dividend / divisor;
}
template <>
inline u32 divide(u32 dividend, u32 divisor) { return divisor ? dividend / divisor : ~u32{0}; }
template <>
inline u64 divide(u64 dividend, u64 divisor) { return divisor ? dividend / divisor : ~u64{0}; }

template <class T>
T remainder(T dividend, T divisor) {
    if (divisor == 0) return dividend;
    if (divisor == T(-1) && std::is_signed_v<T>) return 0;
    return dividend % divisor;
}

// orc.b: every byte that is not zero becomes 0xff.
inline u64 or_combine_bytes(u64 value) {
    u64 result = 0;
    for (int shift = 0; shift < 64; shift += 8)
        if (u8(value >> shift)) result |= u64{0xff} << shift;
    return result;
}

constexpr u32 sign_s = u32{1} << 31;
constexpr u64 sign_d = u64{1} << 63;
constexpr u64 boxed = 0xffffffff00000000;
inline u64 box(u32 single) { return boxed | single; }
inline u32 unbox(u64 bits) { return (bits & boxed) == boxed ? u32(bits) : 0x7fc00000; }

// The rounding mode of a floating-point instruction; -1: reserved.
inline int rounding_mode(i32 rm, u32 frm) {
    const u32 mode = rm == 7 ? frm : u32(rm);
    return mode <= 4 ? int(mode) : -1;
}

struct Memory {
    u64 address = 0;
    u64 value = 0;
    u8 size = 0;
};

inline void insn_row(InsnTable& table, const Hart& h, const Info& info, u8 rd, u64 pc,
                     u64 index, const Memory& memory) {
    const u64 row = table.rows++;
    const char kind = destination(info.op);
    const bool integer = kind == 'x' && rd != x0_sink;
    table.seq[row] = index << seq_shift;
    table.pc[row] = pc;
    table.word[row] = info.word;
    table.rd[row] = integer ? rd : kind == 'f' ? u8(32 + rd) : u8{255};
    table.rd_value[row] = integer ? h.x[rd] : kind == 'f' ? h.f[rd] : 0;
    table.mem_addr[row] = memory.address;
    table.mem_value[row] = memory.value;
    table.mem_size[row] = memory.size;
    table.ssp[row] = h.ssp;
}

}  // namespace semantics

template <unsigned Level>
[[gnu::noinline, gnu::noclone]] Interruption interpret(Hart* hart, AddressSpace* space, u64 budget,
                                                       bool resumed, u32 tid, u32 mm) {
    using namespace semantics;

    static const void* const label[op_count] = {
#define INSN(extension, name, ...) &&do_##name,
#include "isa/all.inc"
#undef INSN
        &&do_illegal, &&do_fallthrough, &&do_pause,
    };

    if (!hart) return {.handlers = label};

    Hart& h = *hart;
    AddressSpace& as = *space;
    Machine& m = *h.machine;
    Tlb& tlb = as.tlb;
    u64* const x = h.x;
    u64* const f = h.f;
    const bool lpe = h.lpe && m.extensions.zicfilp;
    const u64 limit = m.icount + budget;  // icount when the budget is used up
    u64 left = budget;                    // what the blocks entered so far have not taken
    u64 pc = h.pc;                        // only true between blocks
    u64 base = pc;                        // of the block
    Block* blk = nullptr;
    const Slot* ip = nullptr;
    Block** link = nullptr;  // where to remember the next block
    Stop stop = stop_budget;
    bool mid_block = false;
    [[maybe_unused]] Memory memory;
    alignas(Block) unsigned char truncated[sizeof(Block) + max_block_instructions * sizeof(Slot)];

#define RD x[ip->rd]
#define RS1 x[ip->rs1]
#define RS2 x[ip->rs2]
#define IMM u64(i64(ip->imm))
#define SHAMT ip->imm
#define BASE base
#define LINK (base + blk->length)
#define INFO blk->info[ip - blk->slots()]
#define WORD INFO.word
#define PC (base + INFO.offset)
#define SIGNED(value) u64(i64(value))

#define FD f[ip->rd]
#define S1 unbox(f[ip->rs1])
#define S2 unbox(f[ip->rs2])
#define S3 unbox(f[ip->rs3])
#define D1 f[ip->rs1]
#define D2 f[ip->rs2]
#define D3 f[ip->rs3]
#define FL h.fflags
#define ROUNDED(...)                                  \
    const int rm = rounding_mode(ip->imm, h.frm);     \
    if (UNLIKELY(rm < 0)) FAULT(cause_illegal, WORD); \
    __VA_ARGS__

// The instruction's own index (icount while it executes).
#define POSITION u64(ip - blk->slots() + 1)
#define INDEX (limit - left - blk->count + POSITION)

#define RETIRE()                                                            \
    do {                                                                    \
        if constexpr (Level & trace_insn) {                                 \
            insn_row(m.tables.insn, h, INFO, ip->rd, PC, INDEX, memory);              \
            memory.size = 0;                                                \
            memory.address = memory.value = 0;                              \
        }                                                                   \
    } while (0)
#define NEXT()                  \
    do {                        \
        RETIRE();               \
        ++ip;                   \
        goto* ip->handler;    \
    } while (0)

// FAULT: the instruction's exception. memory_fault: h.fault has it already.
#define FAULT(cause_, tval_)       \
    do {                           \
        h.fault.cause = cause_;    \
        h.fault.tval = tval_;      \
        goto memory_fault;         \
    } while (0)
#define MISMATCH(address_, word_, register_)                \
    do {                                                    \
        h.fault.address = address_;                         \
        h.fault.expected = word_;                           \
        h.fault.found = register_;                          \
        FAULT(cause_software_check, check_shadow_stack);    \
    } while (0)
#define NO_LANDING_PAD(expected_, found_)                   \
    do {                                                    \
        h.fault.expected = expected_;                       \
        h.fault.found = found_;                             \
        FAULT(cause_software_check, check_landing_pad);     \
    } while (0)
#define ECALL()             \
    do {                    \
        RETIRE();           \
        stop = stop_ecall;  \
        goto leave_at_ip;   \
    } while (0)

// Leave for another block. Successors within the page are remembered; a page's blocks die together.
#define FOLLOW(successor, target)      \
    do {                               \
        RETIRE();                      \
        pc = target;                   \
        if (LIKELY(blk->successor)) {  \
            blk = blk->successor;      \
            goto enter_block;          \
        }                              \
        link = &blk->successor;        \
        goto enter_and_link;           \
    } while (0)
#define JUMP(target) FOLLOW(taken, target)
#define BRANCH(condition)           \
    if (condition) {                \
        FOLLOW(taken, base + IMM);  \
    } else {                        \
        FOLLOW(next, LINK);         \
    }
// jalr: "An indirect JALR whose rs1 is neither x1 or x5 nor x7 sets ELP to LP_EXPECTED if xLPE".
#define JUMP_REGISTER(target_)                                           \
    do {                                                                 \
        RETIRE();                                                        \
        pc = target_;                                                    \
        if (lpe && ip->rs1 != 1 && ip->rs1 != 5 && ip->rs1 != 7) {       \
            h.elp = true;                                                \
            goto landing;                                                \
        }                                                                \
        goto enter;                                                      \
    } while (0)

#define RECORD(address_, value_, size_)                        \
    do {                                                       \
        if constexpr (Level & trace_insn)                      \
            memory = {address_, u64(value_), size_};           \
    } while (0)
// After an access by store permission: the page it touched may have had decoded text.
#define ACCESSED(address_, value_, size_)           \
    do {                                            \
        RECORD(address_, value_, size_);            \
        if (UNLIKELY(!m.stale.empty())) goto stale; \
    } while (0)

#define LOAD(T, ...)                                                                   \
    const u64 address = RS1 + IMM;                                                     \
    const Tlb::Data& entry = tlb.load[Tlb::index(address)];                            \
    T value;                                                                           \
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address))) {                                 \
        value = peek<T>(entry.addend + address);                                       \
    } else {                                                                           \
        u64 bits;                                                                      \
        if (!semantics::load(h, as, address, sizeof(T), bits)) goto memory_fault;      \
        value = T(bits);                                                               \
    }                                                                                  \
    __VA_ARGS__;                                                                       \
    RECORD(address, std::make_unsigned_t<T>(value), sizeof(T))
#define STORE(T, source)                                                               \
    const u64 address = RS1 + IMM;                                                     \
    const T value = T(source);                                                         \
    const Tlb::Data& entry = tlb.store[Tlb::index(address)];                           \
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address))) {                                 \
        poke<T>(entry.addend + address, value);                                        \
        RECORD(address, value, sizeof(T));                                             \
    } else {                                                                           \
        if (!semantics::store(h, as, address, sizeof(T), value)) goto memory_fault;    \
        ACCESSED(address, value, sizeof(T));                                           \
    }
#define LOAD_RESERVED(T)                                                           \
    const u64 address = RS1;                                                       \
    const T* const source = semantics::word<T, Access::load>(h, as, address);      \
    if (UNLIKELY(!source)) goto memory_fault;                                      \
    const T value = *source;                                                       \
    h.reservation = {true, sizeof(T), address, SIGNED(value)};                     \
    RD = SIGNED(value);                                                            \
    RECORD(address, std::make_unsigned_t<T>(value), sizeof(T))
#define STORE_CONDITIONAL(T)                                                       \
    const u64 address = RS1;                                                       \
    T* const target = semantics::word<T, Access::store>(h, as, address);           \
    if (UNLIKELY(!target)) goto memory_fault;                                      \
    const Reservation seen = h.reservation;                                        \
    h.reservation.valid = false;                                                   \
    const bool success = seen.valid && seen.size == sizeof(T) &&                   \
                         seen.address == address && seen.value == SIGNED(*target); \
    if (success) {                                                                 \
        *target = T(RS2);                                                          \
        RECORD(address, std::make_unsigned_t<T>(RS2), sizeof(T));                  \
    }                                                                              \
    RD = !success;                                                                 \
    if (UNLIKELY(!m.stale.empty())) goto stale
#define AMO(T, result)                                                         \
    const u64 address = RS1;                                                   \
    T* const target = semantics::word<T, Access::store>(h, as, address);       \
    if (UNLIKELY(!target)) goto memory_fault;                                  \
    const T old = *target;                                                     \
    const T operand = T(RS2);                                                  \
    const T value = result;                                                    \
    *target = value;                                                           \
    RD = SIGNED(old);                                                          \
    ACCESSED(address, std::make_unsigned_t<T>(value), sizeof(T))

#define SHADOW_WORD(T, address) semantics::word<T, Access::shadow>(h, as, address)
#define SSAMOSWAP(T)                                                                        \
    const u64 address = RS1;                                                                \
    if (!h.sse) {                                                                           \
        CFI_ROW(cfi_ssamoswap, address, 0, 0, h.ssp, h.ssp, cause_illegal);                 \
        FAULT(cause_illegal, WORD);                                                     \
    }                                                                                       \
    T* const target = SHADOW_WORD(T, address);                                              \
    if (UNLIKELY(!target)) {                                                                \
        CFI_FAULT(cfi_ssamoswap, address, std::make_unsigned_t<T>(RS2), 0);                 \
        goto memory_fault;                                                                  \
    }                                                                                       \
    const auto old = std::make_unsigned_t<T>(*target);                                      \
    const auto value = std::make_unsigned_t<T>(RS2);                                        \
    *target = T(value);                                                                     \
    CFI(cfi_ssamoswap, address, value, old, h.ssp, h.ssp);                                  \
    RD = SIGNED(T(old));                                                                    \
    ACCESSED(address, value, sizeof(T))

#define CSR_ACCESS(writes, update)                                                          \
    const u32 csr = u32(ip->imm);                                                           \
    const CfiKind kind = (writes) ? cfi_ssp_write : cfi_ssp_read;                           \
    const u64 before = h.ssp;                                                               \
    u64 old = 0;                                                                            \
    if (!read_csr(h, csr, INDEX, old) || ((writes) && !writable_csr(csr))) {                \
        if (csr == csr_ssp && m.extensions.zicfiss)                                         \
            CFI_ROW(kind, 0, 0, 0, before, before, cause_illegal);                          \
        FAULT(cause_illegal, WORD);                                                     \
    }                                                                                       \
    if (writes) write_csr(h, csr, update);                                                  \
    if (csr == csr_ssp) CFI(kind, 0, h.ssp, 0, before, h.ssp);                              \
    RD = old

#define CFI_ROW_AT(index_, pc_, kind_, addr_, value_, operand_, before_, after_, fault_) \
    do {                                                                             \
        if constexpr (Level & trace_cfi) {                                           \
            CfiTable& table = m.tables.cfi;                                          \
            const u64 row = table.rows++;                                            \
            table.seq[row] = (index_) << seq_shift;                                  \
            table.kind[row] = kind_;                                                 \
            table.pc[row] = pc_;                                                     \
            table.addr[row] = addr_;                                                 \
            table.value[row] = value_;                                               \
            table.operand[row] = operand_;                                           \
            table.ssp_before[row] = before_;                                         \
            table.ssp_after[row] = after_;                                           \
            table.fault[row] = fault_;                                               \
        }                                                                            \
    } while (0)
#define CFI_ROW(...) CFI_ROW_AT(INDEX, PC, __VA_ARGS__)
#define CFI(kind_, addr_, value_, operand_, before_, after_) \
    CFI_ROW(kind_, addr_, value_, operand_, before_, after_, cause_none)
// Of an instruction whose memory access has left its exception in h.fault.
#define CFI_FAULT(kind_, addr_, value_, operand_) \
    CFI_ROW(kind_, addr_, value_, operand_, h.ssp, h.ssp, h.fault.cause)

// A row for entering blk at pc, before the budget is taken; a full code table stops the run instead.
#define FLOW_ROW()                                                          \
    do {                                                                    \
        if constexpr (Level & trace_flow) {                                 \
            if (UNLIKELY(resumed)) {                                        \
                resumed = false;                                            \
            } else {                                                        \
                const u64 seq = (limit - left + 1) << seq_shift;            \
                const u32 id = LIKELY(blk->flow_id && blk->flow_pc == pc)   \
                                   ? blk->flow_id                           \
                                   : m.flow_id(*blk, pc, seq, tid, mm);     \
                if (UNLIKELY(!id)) {                                        \
                    stop = stop_flush;                                      \
                    goto leave;                                             \
                }                                                           \
                FlowTable& table = m.tables.flow;                           \
                const u64 row = table.rows++;                               \
                table.seq[row] = seq;                                       \
                table.block[row] = id;                                      \
            }                                                               \
        }                                                                   \
    } while (0)

    static_cast<void>(tid), static_cast<void>(mm), static_cast<void>(resumed);
    if (lpe && h.elp) goto landing;

enter: {
    const Tlb::Text& text = tlb.text[Tlb::index(pc)];
    if (LIKELY(text.tag == (pc & ~page_mask))) {
        blk = text.page->entry[(pc & page_mask) / 2];
        if (LIKELY(blk)) goto enter_block;
    }
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
    const bool same_page = ((pc ^ base) & ~page_mask) == 0;
    if (left == 0) goto leave;
    blk = find_block(h, as, pc);
    if (!blk) goto fetch_fault;
    if (same_page && blk->page->entry[(pc & page_mask) / 2] == blk) *link = blk;
    goto enter_block;
}

// A landing pad is expected at pc. "Above illegal instruction, below fetch faults" in priority.
landing:
    if (left == 0) goto leave;
    blk = find_block(h, as, pc);
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
#undef INSN

do_illegal:
    FAULT(cause_illegal, WORD);
do_fallthrough:
    pc = LINK;
    goto enter;
do_pause:
    pc = PC;
    mid_block = true;
    goto leave;

// A store has dropped decoded text. If it was this block's, the rest of it must be decoded again.
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
