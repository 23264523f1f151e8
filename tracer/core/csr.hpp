// The control and status registers of user mode.
#pragma once

#include "hart.hpp"

namespace core {

enum Csr : u32 {
    csr_fflags = 0x001,
    csr_frm = 0x002,
    csr_fcsr = 0x003,
    csr_vstart = 0x008,
    csr_vxsat = 0x009,
    csr_vxrm = 0x00a,
    csr_vcsr = 0x00f,
    csr_ssp = 0x011,
    csr_time = 0xc01,
    csr_vl = 0xc20,
    csr_vtype = 0xc21,
    csr_vlenb = 0xc22,
};

inline bool is_vector_csr(u32 csr) {
    return (csr >= csr_vstart && csr <= csr_vcsr) || (csr >= csr_vl && csr <= csr_vlenb);
}

// "ssp" is accessible to user mode only if xSSE is 1.
inline bool ssp_accessible(const Hart& h) {
    return h.machine->extensions.has(Extension::Zicfiss) && h.sse;
}

// False: user mode has no such register. Of the counters Linux lets only `time` through since 6.6
// (drivers/perf/riscv_pmu_sbi.c: CSR_SCOUNTEREN = 0x2): cycle, instret and hpmcounterN are illegal.
inline bool read_csr(Hart& h, u32 csr, u64 icount, u64& value) {
    if (is_vector_csr(csr)) {
        if (!h.v.enabled) return false;
        h.v.used = true;
    }
    switch (csr) {
        case csr_fflags: value = h.fflags; return true;
        case csr_frm: value = h.frm; return true;
        case csr_fcsr: value = h.fcsr(); return true;
        case csr_vstart: value = h.v.vstart; return true;
        case csr_vxsat: value = h.v.vxsat; return true;
        case csr_vxrm: value = h.v.vxrm; return true;
        case csr_vcsr: value = h.v.vcsr(); return true;
        case csr_vl: value = h.v.vl; return true;
        case csr_vtype: value = h.v.vtype; return true;
        case csr_vlenb: value = VectorState::vlenb; return true;
        case csr_ssp: value = h.ssp; return ssp_accessible(h);
        case csr_time: value = icount + h.machine->time_offset; return true;
        default: return false;
    }
}

// For a register that can be read. CSR numbers with bits 11:10 = 11 are read-only.
inline bool writable_csr(u32 csr) { return csr >> 10 != 3; }

inline void write_csr(Hart& h, u32 csr, u64 value) {
    switch (csr) {
        case csr_fflags: h.fflags = value & 31; break;
        case csr_frm: h.frm = value & 7; break;
        case csr_fcsr: h.set_fcsr(value); break;
        case csr_vstart: h.v.set_vstart(value); break;
        case csr_vxsat: h.v.vxsat = value & 1; break;
        case csr_vxrm: h.v.vxrm = value & 3; break;
        case csr_vcsr: h.v.set_vcsr(value); break;
        case csr_ssp: h.ssp = value & ~u64{7}; break;  // bits 2:0 are read-only zero on RV64
        default: break;
    }
}

}  // namespace core
