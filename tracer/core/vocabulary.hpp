// The macros that the semantics in isa/*.inc use, over the loop's variables (interpreter.hpp):
//   RD RS1 RS2 IMM SHAMT PC WORD   the instruction at ip; BASE LINK: of its block
//   FD H1 S1..3 D1..3 FL ROUNDED   floating-point operands, flags, rounding mode
//   LOAD STORE AMO ...             memory; on an exception they go to memory_fault
//   BRANCH JUMP JUMP_REGISTER      go to the next block
//   FAULT ECALL                    leave the loop
//   CFI CFI_ROW CFI_FAULT          a row of the cfi table, at levels that record it
#pragma once

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
#define H1 unbox_half(f[ip->rs1])
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

// The index of the instruction (icount while it executes).
#define POSITION u64(ip - blk->slots() + 1)
#define INDEX (limit - left - blk->count + POSITION)

#define RETIRE()                                                         \
    do {                                                                 \
        if constexpr (Level & trace_insn) {                              \
            insn_row(m.tables.insn, h, INFO, ip->rd, PC, INDEX, memory); \
            memory.size = 0;                                             \
            memory.address = memory.value = 0;                           \
        }                                                                \
    } while (0)
#define NEXT()             \
    do {                   \
        RETIRE();          \
        ++ip;              \
        goto* ip->handler; \
    } while (0)

// FAULT: raise an exception. memory_fault: h.fault is set already.
#define FAULT(cause_, tval_)    \
    do {                        \
        h.fault.cause = cause_; \
        h.fault.tval = tval_;   \
        goto memory_fault;      \
    } while (0)
#define MISMATCH(address_, word_, register_)             \
    do {                                                 \
        h.fault.address = address_;                      \
        h.fault.expected = word_;                        \
        h.fault.found = register_;                       \
        FAULT(cause_software_check, check_shadow_stack); \
    } while (0)
#define NO_LANDING_PAD(expected_, found_)               \
    do {                                                \
        h.fault.expected = expected_;                   \
        h.fault.found = found_;                         \
        FAULT(cause_software_check, check_landing_pad); \
    } while (0)
#define ECALL()            \
    do {                   \
        RETIRE();          \
        stop = stop_ecall; \
        goto leave_at_ip;  \
    } while (0)

// Go to another block. Successors within the page are cached: the blocks of a page are freed
// together.
#define FOLLOW(successor, target)     \
    do {                              \
        RETIRE();                     \
        pc = target;                  \
        if (LIKELY(blk->successor)) { \
            blk = blk->successor;     \
            goto enter_block;         \
        }                             \
        link = &blk->successor;       \
        goto enter_and_link;          \
    } while (0)
#define JUMP(target) FOLLOW(taken, target)
#define BRANCH(condition)          \
    if (condition) {               \
        FOLLOW(taken, base + IMM); \
    } else {                       \
        FOLLOW(next, LINK);        \
    }
// jalr: "An indirect JALR whose rs1 is neither x1 or x5 nor x7 sets ELP to LP_EXPECTED if xLPE".
#define JUMP_REGISTER(target_)                                     \
    do {                                                           \
        RETIRE();                                                  \
        pc = target_;                                              \
        if (lpe && ip->rs1 != 1 && ip->rs1 != 5 && ip->rs1 != 7) { \
            h.elp = true;                                          \
            goto landing;                                          \
        }                                                          \
        goto enter;                                                \
    } while (0)

#define RECORD(address_, value_, size_)              \
    do {                                             \
        if constexpr (Level & trace_insn)            \
            memory = {address_, u64(value_), size_}; \
    } while (0)
// After an access that required store permission: the page may have had decoded text.
#define ACCESSED(address_, value_, size_)           \
    do {                                            \
        RECORD(address_, value_, size_);            \
        if (UNLIKELY(!m.stale.empty())) goto stale; \
    } while (0)

#define LOAD(T, ...)                                                              \
    const u64 address = RS1 + IMM;                                                \
    const Tlb::Data& entry = tlb.load[Tlb::index(address)];                       \
    T value;                                                                      \
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address))) {                            \
        value = peek<T>(entry.addend + address);                                  \
    } else {                                                                      \
        u64 bits;                                                                 \
        if (!semantics::load(h, as, address, sizeof(T), bits)) goto memory_fault; \
        value = T(bits);                                                          \
    }                                                                             \
    __VA_ARGS__;                                                                  \
    RECORD(address, std::make_unsigned_t<T>(value), sizeof(T))
#define STORE(T, source)                                                            \
    const u64 address = RS1 + IMM;                                                  \
    const T value = T(source);                                                      \
    const Tlb::Data& entry = tlb.store[Tlb::index(address)];                        \
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address))) {                              \
        poke<T>(entry.addend + address, value);                                     \
        RECORD(address, value, sizeof(T));                                          \
    } else {                                                                        \
        if (!semantics::store(h, as, address, sizeof(T), value)) goto memory_fault; \
        ACCESSED(address, value, sizeof(T));                                        \
    }
#define LOAD_RESERVED(T)                                                      \
    const u64 address = RS1;                                                  \
    const T* const source = semantics::word<T, Access::load, use_load>(h, as, address); \
    if (UNLIKELY(!source)) goto memory_fault;                                 \
    const T value = *source;                                                  \
    h.reservation = {true, sizeof(T), as.untagged(address), SIGNED(value)};   \
    RD = SIGNED(value);                                                       \
    RECORD(address, std::make_unsigned_t<T>(value), sizeof(T))
#define STORE_CONDITIONAL(T)                                                       \
    const u64 address = RS1;                                                       \
    T* const target = semantics::word<T, Access::store, use_store>(h, as, address);           \
    if (UNLIKELY(!target)) goto memory_fault;                                      \
    const Reservation seen = h.reservation;                                        \
    h.reservation.valid = false;                                                   \
    const bool success = seen.valid && seen.size == sizeof(T) &&                   \
                         seen.address == as.untagged(address) &&                  \
                         seen.value == SIGNED(*target);                            \
    if (success) {                                                                 \
        *target = T(RS2);                                                          \
        RECORD(address, std::make_unsigned_t<T>(RS2), sizeof(T));                  \
    }                                                                              \
    RD = !success;                                                                 \
    if (UNLIKELY(!m.stale.empty())) goto stale
#define AMO(T, result)                                                   \
    const u64 address = RS1;                                             \
    T* const target = semantics::word<T, Access::store, use_load | use_store>(h, as, address); \
    if (UNLIKELY(!target)) goto memory_fault;                            \
    const T old = *target;                                               \
    const T operand = T(RS2);                                            \
    const T value = result;                                              \
    *target = value;                                                     \
    RD = SIGNED(old);                                                    \
    ACCESSED(address, std::make_unsigned_t<T>(value), sizeof(T))

#define SHADOW_WORD(T, address, uses) semantics::word<T, Access::shadow, uses>(h, as, address)
#define SSAMOSWAP(T)                                                        \
    const u64 address = RS1;                                                \
    if (!h.sse) {                                                           \
        CFI_ROW(cfi_ssamoswap, address, 0, 0, h.ssp, h.ssp, cause_illegal); \
        FAULT(cause_illegal, WORD);                                         \
    }                                                                       \
    T* const target = SHADOW_WORD(T, address, use_load | use_store);                              \
    if (UNLIKELY(!target)) {                                                \
        CFI_FAULT(cfi_ssamoswap, address, std::make_unsigned_t<T>(RS2), 0); \
        goto memory_fault;                                                  \
    }                                                                       \
    const auto old = std::make_unsigned_t<T>(*target);                      \
    const auto value = std::make_unsigned_t<T>(RS2);                        \
    *target = T(value);                                                     \
    CFI(cfi_ssamoswap, address, value, old, h.ssp, h.ssp);                  \
    RD = SIGNED(T(old));                                                    \
    ACCESSED(address, value, sizeof(T))

#define CSR_ACCESS(writes, update)                                           \
    const u32 csr = u32(ip->imm);                                            \
    const CfiKind kind = (writes) ? cfi_ssp_write : cfi_ssp_read;            \
    const u64 before = h.ssp;                                                \
    u64 old = 0;                                                             \
    if (!read_csr(h, csr, INDEX, old) || ((writes) && !writable_csr(csr))) { \
        if (csr == csr_ssp && m.extensions.has(Extension::Zicfiss))          \
            CFI_ROW(kind, 0, 0, 0, before, before, cause_illegal);           \
        FAULT(cause_illegal, WORD);                                          \
    }                                                                        \
    if (writes) write_csr(h, csr, update);                                   \
    if (csr == csr_ssp) CFI(kind, 0, h.ssp, 0, before, h.ssp);               \
    RD = old

#define CFI_ROW_AT(index_, pc_, kind_, addr_, value_, operand_, before_, after_, fault_) \
    do {                                                                                 \
        if constexpr (Level & trace_cfi) {                                               \
            CfiTable& table = m.tables.cfi;                                              \
            const u64 row = table.rows++;                                                \
            table.set<"seq">(row, (index_) << seq_shift);                                \
            table.set<"kind">(row, kind_);                                               \
            table.set<"pc">(row, pc_);                                                   \
            table.set<"addr">(row, addr_);                                               \
            table.set<"value">(row, value_);                                             \
            table.set<"operand">(row, operand_);                                         \
            table.set<"ssp_before">(row, before_);                                       \
            table.set<"ssp_after">(row, after_);                                         \
            table.set<"fault">(row, fault_);                                             \
        }                                                                                \
    } while (0)
#define CFI_ROW(...) CFI_ROW_AT(INDEX, PC, __VA_ARGS__)
#define CFI(kind_, addr_, value_, operand_, before_, after_) \
    CFI_ROW(kind_, addr_, value_, operand_, before_, after_, cause_none)
// For an instruction whose memory access has set h.fault.
#define CFI_FAULT(kind_, addr_, value_, operand_) \
    CFI_ROW(kind_, addr_, value_, operand_, h.ssp, h.ssp, h.fault.cause)

// A row for the entry to blk at pc, before the budget is charged. A full code table stops the run
// instead.
#define FLOW_ROW()                                                        \
    do {                                                                  \
        if constexpr (Level & trace_flow) {                               \
            if (UNLIKELY(resumed)) {                                      \
                resumed = false;                                          \
            } else if (LIKELY(flow)) {                                    \
                const u64 seq = (limit - left + 1) << seq_shift;          \
                const u32 id = LIKELY(blk->flow_id && blk->flow_pc == pc) \
                                   ? blk->flow_id                         \
                                   : m.flow_id(*blk, pc, seq, tid, mm);   \
                if (UNLIKELY(!id)) {                                      \
                    stop = stop_flush;                                    \
                    goto leave;                                           \
                }                                                         \
                FlowTable& table = m.tables.flow;                         \
                const u64 row = table.rows++;                             \
                table.set<"seq">(row, seq);                               \
                table.set<"block">(row, id);                              \
            }                                                             \
        }                                                                 \
    } while (0)
