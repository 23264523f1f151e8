// The rows of isa/*.inc as functions, which native code calls for instructions that the translator
// has no code for, and where its code meets a rare case.
#include "../csr.hpp"
#include "../fp/fp.hpp"
#include "../semantics.hpp"
#include "../vector/execute.hpp"
#include "../vocabulary.hpp"
#include "visit.hpp"

// Control transfers are the translator's or the interpreter's. Rows of insn are the interpreter's.
#undef JUMP
#undef JUMP_REGISTER
#undef BRANCH
#undef ECALL
#undef RECORD
#define RECORD(address_, value_, size_) static_cast<void>(address_), static_cast<void>(value_)
#define JUMP(target_) return Exit::interpret
#define JUMP_REGISTER(target_) return static_cast<void>(target_), Exit::interpret
#define BRANCH(condition_) return Exit::interpret
#define ECALL() return Exit::interpret

namespace core::native {

namespace {

using namespace semantics;

#pragma GCC diagnostic ignored "-Wunused-label"

// `body` with the variables and labels that the vocabulary needs, see interpret().
#define FUNCTION(name, ...)                                                         \
    template <unsigned Level>                                                       \
    Exit name(Visit& visit, Block* block, const Slot* slot, u64 left_) {            \
        [[maybe_unused]] Hart& h = *visit.hart;                                     \
        [[maybe_unused]] AddressSpace& as = *visit.space;                           \
        [[maybe_unused]] Machine& m = *h.machine;                                   \
        [[maybe_unused]] Tlb& tlb = as.tlb;                                         \
        [[maybe_unused]] u64* const x = h.x;                                        \
        [[maybe_unused]] u64* const f = h.f;                                        \
        [[maybe_unused]] const bool lpe = h.lpe;                                    \
        [[maybe_unused]] const u64 limit = visit.limit;                             \
        [[maybe_unused]] const u64 left = left_;                                    \
        [[maybe_unused]] Block* const blk = block;                                  \
        [[maybe_unused]] const Slot* const ip = slot;                               \
        [[maybe_unused]] const u64 base = block->page->native_page + block->offset; \
        {                                                                           \
            __VA_ARGS__;                                                            \
        }                                                                           \
        return Exit::none;                                                          \
    memory_fault:                                                                   \
        return Exit::fault;                                                         \
    stale:                                                                          \
        if (m.is_stale(blk->page)) return Exit::stale;                              \
        m.bury();                                                                   \
        return Exit::none;                                                          \
    }

#define INSN(extension, name, mask, match, format, ...) FUNCTION(row_##name, __VA_ARGS__)
#include "../isa/all.inc"
FUNCTION(row_vector, if (!core::vector::execute(h, as, *ip, INFO.op)) goto memory_fault;
         ACCESSED(h.v.access.address, h.v.access.value, h.v.access.size))

}  // namespace

const Row rows[2][op_count] = {
    {
#define INSN(extension, name, ...) row_##name<0>,
#include "../isa/all.inc"
#define VINSN(...) row_vector<0>,
#include "../isa/vector.inc"
    },
    {
#define INSN(extension, name, ...) row_##name<trace_cfi>,
#include "../isa/all.inc"
#define VINSN(...) row_vector<trace_cfi>,
#include "../isa/vector.inc"
    },
};

}  // namespace core::native
