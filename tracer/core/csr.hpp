// The control and status registers of user mode.
#pragma once

#include "hart.hpp"

namespace core {

enum Csr : u32 {
    csr_fflags = 0x001,
    csr_frm = 0x002,
    csr_fcsr = 0x003,
    csr_ssp = 0x011,
    csr_cycle = 0xc00,
    csr_time = 0xc01,
    csr_instret = 0xc02,
};

// "ssp" is accessible to user mode only if xSSE is 1.
inline bool ssp_accessible(const Hart& h) { return h.machine->extensions.zicfiss && h.sse; }

// False: no such register for user mode. The counters all read `icount`.
inline bool read_csr(const Hart& h, u32 csr, u64 icount, u64& value) {
    switch (csr) {
        case csr_fflags: value = h.fflags; return true;
        case csr_frm: value = h.frm; return true;
        case csr_fcsr: value = h.fcsr(); return true;
        case csr_ssp: value = h.ssp; return ssp_accessible(h);
        case csr_cycle:
        case csr_time:
        case csr_instret: value = icount; return true;
        default: return false;
    }
}

// Of a register that can be read: bits 11:10 = 11 are the read-only ones.
inline bool writable_csr(u32 csr) { return csr >> 10 != 3; }

inline void write_csr(Hart& h, u32 csr, u64 value) {
    switch (csr) {
        case csr_fflags: h.fflags = value & 31; break;
        case csr_frm: h.frm = value & 7; break;
        case csr_fcsr: h.set_fcsr(value); break;
        case csr_ssp: h.ssp = value & ~u64{7}; break;  // bits 2:0 are read-only zero on RV64
        default: break;
    }
}

}  // namespace core
