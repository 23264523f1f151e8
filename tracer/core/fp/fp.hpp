// RISC-V F, D, Zfhmin and Zfa arithmetic (the unprivileged manual's chapters) on raw bits.
//
// rm is a resolved rounding mode, 0..4 = RNE RTZ RDN RUP RMM. The instruction's fflags are or-ed
// into fl. NaN results are canonical, and tininess is detected after rounding. The caller does the
// NaN boxing. Conversions to integers return the whole register: 32 bits are sign-extended, also
// for .wu.
#pragma once

#include "../types.hpp"

namespace fp {

constexpr u32 nx = 1, uf = 2, of = 4, dz = 8, nv = 16;
constexpr int rne = 0, rtz = 1, rdn = 2, rup = 3, rmm = 4;

// Sets the host's floating-point environment to the default while it exists: round to nearest, no
// flushing of subnormals, no traps. Another library in the process may have changed it. The calls
// below require a HostMode in scope.
class HostMode {
  public:
    HostMode();
    ~HostMode();
    HostMode(const HostMode&) = delete;
    HostMode& operator=(const HostMode&) = delete;

  private:
    u32 saved_;
};

u32 add_s(u32 a, u32 b, int rm, u32& fl);
u32 sub_s(u32 a, u32 b, int rm, u32& fl);
u32 mul_s(u32 a, u32 b, int rm, u32& fl);
u32 div_s(u32 a, u32 b, int rm, u32& fl);
u32 sqrt_s(u32 a, int rm, u32& fl);
u32 fma_s(u32 a, u32 b, u32 c, int rm, u32& fl);  // a * b + c, rounded once
u32 min_s(u32 a, u32 b, u32& fl);                 // minimumNumber: -0 < +0, a number beats a NaN
u32 max_s(u32 a, u32 b, u32& fl);
bool eq_s(u32 a, u32 b, u32& fl);  // quiet: NV only for signaling NaNs
bool lt_s(u32 a, u32 b, u32& fl);  // signaling: NV for every NaN
bool le_s(u32 a, u32 b, u32& fl);
u32 class_s(u32 a);
u32 minimum_s(u32 a, u32 b, u32& fl);  // minimum: -0 < +0, a NaN beats a number
u32 maximum_s(u32 a, u32 b, u32& fl);
bool lt_quiet_s(u32 a, u32 b, u32& fl);
bool le_quiet_s(u32 a, u32 b, u32& fl);
u32 round_s(u32 a, int rm, bool exact, u32& fl);  // to an integer; exact: NX if the result differs
u32 immediate_s(u32 index);                       // the table of fli

u64 add_d(u64 a, u64 b, int rm, u32& fl);
u64 sub_d(u64 a, u64 b, int rm, u32& fl);
u64 mul_d(u64 a, u64 b, int rm, u32& fl);
u64 div_d(u64 a, u64 b, int rm, u32& fl);
u64 sqrt_d(u64 a, int rm, u32& fl);
u64 fma_d(u64 a, u64 b, u64 c, int rm, u32& fl);
u64 min_d(u64 a, u64 b, u32& fl);
u64 max_d(u64 a, u64 b, u32& fl);
bool eq_d(u64 a, u64 b, u32& fl);
bool lt_d(u64 a, u64 b, u32& fl);
bool le_d(u64 a, u64 b, u32& fl);
u32 class_d(u64 a);
u64 minimum_d(u64 a, u64 b, u32& fl);
u64 maximum_d(u64 a, u64 b, u32& fl);
bool lt_quiet_d(u64 a, u64 b, u32& fl);
bool le_quiet_d(u64 a, u64 b, u32& fl);
u64 round_d(u64 a, int rm, bool exact, u32& fl);
u64 immediate_d(u32 index);

u64 f32_to_f64(u32 a, u32& fl);
u32 f64_to_f32(u64 a, int rm, u32& fl);
u32 f16_to_f32(u16 a, u32& fl);
u64 f16_to_f64(u16 a, u32& fl);
u16 f32_to_f16(u32 a, int rm, u32& fl);
u16 f64_to_f16(u64 a, int rm, u32& fl);

u64 s_to_i32(u32 a, int rm, u32& fl);
u64 s_to_u32(u32 a, int rm, u32& fl);
u64 s_to_i64(u32 a, int rm, u32& fl);
u64 s_to_u64(u32 a, int rm, u32& fl);
u64 d_to_i32(u64 a, int rm, u32& fl);
u64 d_to_u32(u64 a, int rm, u32& fl);
u64 d_to_i64(u64 a, int rm, u32& fl);
u64 d_to_u64(u64 a, int rm, u32& fl);
u64 d_to_i32_modular(u64 a, u32& fl);  // fcvtmod: towards zero, modulo 2^32

// x is the whole register; the 32-bit conversions read its low half.
u32 i32_to_s(u64 x, int rm, u32& fl);
u32 u32_to_s(u64 x, int rm, u32& fl);
u32 i64_to_s(u64 x, int rm, u32& fl);
u32 u64_to_s(u64 x, int rm, u32& fl);
u64 i32_to_d(u64 x, int rm, u32& fl);
u64 u32_to_d(u64 x, int rm, u32& fl);
u64 i64_to_d(u64 x, int rm, u32& fl);
u64 u64_to_d(u64 x, int rm, u32& fl);

}  // namespace fp
