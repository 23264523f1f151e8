// The vector state of a hart: v0..v31, vl, vtype, vstart, vcsr. VLEN 128, ELEN 64.
#pragma once

#include <algorithm>
#include <cstring>

#include "../types.hpp"

namespace core {

struct VectorState {
    static constexpr unsigned vlenb = 16;
    static constexpr u64 vill = u64{1} << 63;

    alignas(16) u8 bytes[32 * vlenb] = {};  // a register group is contiguous
    u64 vl = 0;
    u64 vtype = 0;
    u64 vstart = 0;
    u8 vxrm = 0;
    bool vxsat = false;
    bool enabled = true;  // sstatus.VS is not Off
    bool used = false;    // false: no vector instruction or CSR access yet, all state is initial

    // The first element in memory that the last instruction accessed; size 0: none.
    struct {
        u64 address = 0;
        u64 value = 0;
        u8 size = 0;
    } access;

    // Sets vtype, and vl = min(avl, VLMAX), which the manual allows for every AVL. Unsupported
    // values set vill: reserved bits, SEW > ELEN, LMUL < SEW / ELEN, vlmul = 100.
    void configure(u64 new_vtype, u64 avl) {
        const int sew = sew_of(new_vtype);
        const int lmul = lmul_of(new_vtype);
        const bool supported = new_vtype < 256 && lmul >= -3 && sew <= 6 + std::min(lmul, 0);
        vtype = supported ? new_vtype : vill;
        vl = supported ? std::min(avl, vlmax()) : 0;
        vstart = 0;
    }
    // log2 of the bits of an element and of the registers of a group.
    static int sew_of(u64 vtype) { return static_cast<int>(vtype >> 3 & 7) + 3; }
    static int lmul_of(u64 vtype) { return static_cast<int>((vtype & 7) ^ 4) - 4; }
    u64 vlmax() const { return u64{8 * vlenb} << (lmul_of(vtype) + 3) >> sew_of(vtype) >> 3; }
    // The state after a system call: "v0-v31 ... are discarded", on Linux all ones; vtype is vill.
    void discard() {
        std::memset(bytes, 0xff, sizeof bytes);
        configure(vill, 0);
    }

    u64 vcsr() const { return u64{vxrm} << 1 | u64{vxsat}; }
    void set_vcsr(u64 value) { vxsat = value & 1, vxrm = (value >> 1) & 3; }
    // vstart has only the bits for the index of the largest group's last element.
    void set_vstart(u64 value) { vstart = value & (8 * vlenb - 1); }
    u64 low_word(unsigned reg) const {
        u64 word;
        std::memcpy(&word, bytes + reg * vlenb, sizeof word);
        return word;
    }
};

}  // namespace core
