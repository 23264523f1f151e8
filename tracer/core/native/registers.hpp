// Where native code has the state of the hart: the guest registers that programs use most in
// registers of the host, everything else in the Hart.
#pragma once

#include "../hart.hpp"
#include "visit.hpp"
#include "x86.hpp"

namespace core::native {

// rax, rcx and rdx are for passing values. [rsp] is the Visit.
constexpr Reg registers = rbp;  // the address of x[16], so that all of x has 8-bit displacements
constexpr Reg left = r15;       // budget
constexpr Reg tlb = r14;

struct Held {
    u8 guest;
    Reg host;
};
constexpr Held held[] = {
    {2, rbx}, {8, r12}, {9, r13}, {10, rdi}, {11, rsi}, {12, r8}, {13, r9}, {14, r10}, {15, r11},
};

// The host's register of a guest register; rsp if it has none.
constexpr Reg host_of(u8 guest) {
    for (const Held& pair : held)
        if (pair.guest == guest) return pair.host;
    return rsp;
}
constexpr bool is_held(u8 guest) { return host_of(guest) != rsp; }

static_assert(std::is_standard_layout_v<Hart>);
static_assert(std::is_standard_layout_v<Visit>);
constexpr i32 hart_origin = offsetof(Hart, x) + 16 * sizeof(u64);
inline Operand in_hart(std::size_t offset) { return {registers, i32(offset) - hart_origin}; }
inline Operand in_memory(u8 guest) { return in_hart(offsetof(Hart, x) + guest * sizeof(u64)); }

}  // namespace core::native
