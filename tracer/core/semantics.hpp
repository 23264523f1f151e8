// The functions that the semantics in isa/*.inc call: slow paths of memory accesses, arithmetic
// with corner cases, NaN boxing.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "address_space.hpp"
#include "decode.hpp"
#include "hart.hpp"

namespace core {

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

// Whether a debugger watches these bytes; then h.fault has cause_trap.
inline bool traps(Hart& h, const AddressSpace& as, u64 address, u64 size, u8 uses) {
    if (!as.traps_access(as.untagged(address), size, uses)) return false;
    h.fault.cause = cause_trap;
    return true;
}

// The slow path of a load: any alignment, any page.
[[gnu::noinline]] inline bool load(Hart& h, AddressSpace& as, u64 address, unsigned size,
                                   u64& bits) {
    if (as.load(address, size, bits, h.fault) && !traps(h, as, address, size, use_load))
        return true;
    h.fault.address = as.untagged(address);
    return false;
}

[[gnu::noinline]] inline bool store(Hart& h, AddressSpace& as, u64 address, unsigned size,
                                    u64 bits) {
    if (!traps(h, as, address, size, use_store) && as.store(address, size, bits, h.fault))
        return true;
    h.fault.address = as.untagged(address);
    return false;
}

// The host's address of a naturally aligned word; null with the exception in h.fault.
template <Access access, u8 uses>
[[gnu::noinline]] u8* find_word(Hart& h, AddressSpace& as, u64 address, unsigned size) {
    u8* word = access == Access::load ? const_cast<u8*>(as.loadable(address, h.fault))
                                      : as.storable(address, access, h.fault);
    if (word && address % size) {
        h.fault.cause = access == Access::load ? cause_load_access : cause_store_access;
        word = nullptr;
    }
    if (word && traps(h, as, address, size, uses)) word = nullptr;
    if (!word) h.fault.address = as.untagged(address);
    return word;
}

// uses: what the caller does with the word.
template <class T, Access access, u8 uses>
T* word(Hart& h, AddressSpace& as, u64 address) {
    const Tlb::Data* const entries = access == Access::load    ? as.tlb.load
                                     : access == Access::store ? as.tlb.store
                                                               : as.tlb.shadow;
    const Tlb::Data& entry = entries[Tlb::index(address)];
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address)))
        return reinterpret_cast<T*>(entry.addend + address);
    return reinterpret_cast<T*>(find_word<access, uses>(h, as, address, sizeof(T)));
}

constexpr u64 cache_block = 64;

// Whether cbo.clean and cbo.flush may access the block of `address`; if not, h.fault has the
// exception.
[[gnu::noinline]] inline bool manageable_block(Hart& h, const AddressSpace& as, u64 address) {
    const int perm = std::max(0, as.perm(as.untagged(address)));
    const bool shadow_stack = (perm & perm_ss) && (perm & perm_w);
    if ((perm & (perm_r | perm_w)) && !shadow_stack) return true;
    h.fault.cause = shadow_stack ? cause_store_access : cause_store_page;
    h.fault.tval = h.fault.address = as.untagged(address);
    return false;
}

[[gnu::noinline]] inline bool zero_block(Hart& h, AddressSpace& as, u64 address) {
    u8* byte = as.storable(address, Access::store, h.fault);
    const u64 block = address - address % cache_block;
    if (byte && traps(h, as, block, cache_block, use_store)) byte = nullptr;
    if (!byte) {
        h.fault.address = as.untagged(address);
        return false;
    }
    std::memset(byte - address % cache_block, 0, cache_block);
    return true;
}

// The value of rd, for the instructions that read it: of x0, not of its sink.
inline u64 value_in(const u64* x, u8 rd) { return x[rd % x0_sink]; }
// The value of a register pair, the low half in the even register; the pair of x0 reads as zero.
inline u128 pair_in(const u64* x, u8 even) {
    const u8 low = even % x0_sink;
    return low ? u128(x[low + 1]) << 64 | x[low] : 0;
}

template <class T>
T divide(T dividend, T divisor) {
    if (divisor == 0) return T(-1);
    if (divisor == T(-1)) return T(T(0) - std::make_unsigned_t<T>(dividend));
    return dividend / divisor;
}
template <>
inline u32 divide(u32 dividend, u32 divisor) {
    return divisor ? dividend / divisor : ~u32{0};
}
template <>
inline u64 divide(u64 dividend, u64 divisor) {
    return divisor ? dividend / divisor : ~u64{0};
}

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
constexpr u64 boxed_half = 0xffffffffffff0000;
inline u64 box_half(u16 half) { return boxed_half | half; }
inline u16 unbox_half(u64 bits) {
    return (bits & boxed_half) == boxed_half ? u16(bits) : u16{0x7e00};
}

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

inline void insn_row(InsnTable& table, const Hart& h, const Info& info, u8 rd, u64 pc, u64 index,
                     const Memory& memory) {
    const u64 row = table.rows++;
    const char kind = destination[info.op];
    const bool integer = kind == 'x' && rd != x0_sink;
    table.set<"seq">(row, index << seq_shift);
    table.set<"pc">(row, pc);
    table.set<"word">(row, info.word);
    table.set<"rd">(row, integer       ? rd
                         : kind == 'f' ? u8(32 + rd)
                         : kind == 'v' ? u8(64 + rd)
                                       : u8{255});
    table.set<"rd_value">(row, integer       ? h.x[rd]
                               : kind == 'f' ? h.f[rd]
                               : kind == 'v' ? h.v.low_word(rd)
                                             : 0);
    table.set<"mem_addr">(row, memory.address);
    table.set<"mem_value">(row, memory.value);
    table.set<"mem_size">(row, memory.size);
    table.set<"ssp">(row, h.ssp);
}

}  // namespace semantics

}  // namespace core
