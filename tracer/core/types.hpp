// The integer types of the core, and the constants of its interface (see _core.pyi).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u128 = unsigned __int128;
using i128 = __int128;

static_assert(std::endian::native == std::endian::little, "guest memory is accessed in place");

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#ifdef __clang__  // it knows no noclone, and some versions refuse attributes of labels
#define COLD_LABEL
#define NO_CLONE
#else
#define COLD_LABEL [[gnu::cold]]
#define NO_CLONE __attribute__((noclone))
#endif

namespace core {

constexpr u64 page_size = 4096;
constexpr u64 page_mask = page_size - 1;
constexpr unsigned page_shift = 12;
constexpr u64 address_limit = u64{1} << 56;
constexpr unsigned seq_shift = 20;

enum Stop : int { stop_budget = 0, stop_ecall = 1, stop_fault = 2, stop_flush = 3, stop_trap = 4 };

enum Perm : u8 { perm_r = 1, perm_w = 2, perm_x = 4, perm_ss = 8, perm_shared = 16 };

enum Trace : unsigned { trace_cfi = 1, trace_flow = 2, trace_insn = 4 };

// What an instruction does with the bytes that it accesses.
enum Use : u8 { use_load = 1, use_store = 2 };

// Exception codes (privileged manual, table "mcause values"), and two that are not the manual's.
enum Cause : u8 {
    cause_none = 255,
    cause_misaligned_fetch = 0,
    cause_fetch_access = 1,
    cause_illegal = 2,
    cause_breakpoint = 3,
    cause_load_access = 5,
    cause_store_access = 7,
    cause_fetch_page = 12,
    cause_load_page = 13,
    cause_store_page = 15,
    cause_software_check = 18,
    cause_no_frame = 64,
    cause_trap = 65,  // a watched byte; run() makes a stop_trap of it
};

// xtval of a software check exception.
enum SoftwareCheck : u64 { check_landing_pad = 2, check_shadow_stack = 3 };

struct Fault {
    Cause cause = cause_none;
    u32 word = 0;
    u64 tval = 0;
    u64 address = 0;
    u64 expected = 0;
    u64 found = 0;
};

}  // namespace core
