#include "fp.hpp"

#include "format.hpp"
#include "host.hpp"

extern "C" {
#include "platform.h"

#include "softfloat.h"
}

namespace fp {
namespace {

static_assert(softfloat_flag_inexact == nx && softfloat_flag_underflow == uf &&
              softfloat_flag_overflow == of && softfloat_flag_infinite == dz &&
              softfloat_flag_invalid == nv);
static_assert(softfloat_round_near_even == rne && softfloat_round_minMag == rtz &&
              softfloat_round_min == rdn && softfloat_round_max == rup &&
              softfloat_round_near_maxMag == rmm);

// The operations that the host does not handle. Not inlined, so that the fast path needs no stack
// frame.
template <class Operation>
[[gnu::noinline]] auto soft(int rm, u32& fl, Operation operation) {
    softfloat_roundingMode = static_cast<uint_fast8_t>(rm);
    softfloat_exceptionFlags = 0;
    const auto result = operation();
    fl |= softfloat_exceptionFlags;
    return result;
}

// `berkeley` is SoftFloat's function for the operation and the format.

template <auto berkeley, class U>
U add(U a, U b, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::add(a, b, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley({a}, {b}).v; });
}

template <auto berkeley, class U>
U multiply(U a, U b, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::multiply(a, b, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley({a}, {b}).v; });
}

template <auto berkeley, class U>
U divide(U a, U b, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::divide(a, b, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley({a}, {b}).v; });
}

template <auto berkeley, class U>
U square_root(U a, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::square_root(a, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley({a}).v; });
}

template <auto berkeley, class U>
U multiply_add(U a, U b, U c, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::multiply_add(a, b, c, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley({a}, {b}, {c}).v; });
}

template <class I, auto berkeley, class U>
u64 to_integer(U a, int rm, u32& fl) {
    u64 z;
    if (host::usable && LIKELY(host::to_integer<I>(a, rm, fl, z))) return z;
    return soft(rm, fl, [=] {
        const I whole = static_cast<I>(berkeley({a}, softfloat_roundingMode, true));
        return static_cast<u64>(static_cast<std::make_signed_t<I>>(whole));
    });
}

template <class U, class I, auto berkeley>
U from_integer(u64 x, int rm, u32& fl) {
    U z;
    if (host::usable && LIKELY(host::from_integer(static_cast<I>(x), rm, fl, z))) return z;
    return soft(rm, fl, [=] { return berkeley(static_cast<I>(x)).v; });
}

template <auto berkeley, class U>
U round(U a, int rm, bool exact, u32& fl) {
    return soft(rm, fl, [=] { return berkeley({a}, softfloat_roundingMode, exact).v; });
}

// The manual's table of fli; entry 1 is the least normal number of the format.
// clang-format off
constexpr double immediates[32] = {
    -1, 0, 0x1p-16, 0x1p-15, 0x1p-8, 0x1p-7, 0.0625, 0.125,
    0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875,
    1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4,
    8, 16, 128, 256, 0x1p15, 0x1p16, __builtin_inf(), 0,
};
// clang-format on

template <class U>
U immediate(u32 index) {
    if (index == 1) return Format<U>::least_normal;
    if (index == 31) return Format<U>::canonical_nan;
    return host::bits(static_cast<host::Native<U>>(immediates[index]));
}

}  // namespace

HostMode::HostMode() : saved_(host::control()) { host::set_control(host::default_control); }
HostMode::~HostMode() { host::set_control(saved_); }

u32 add_s(u32 a, u32 b, int rm, u32& fl) { return add<f32_add>(a, b, rm, fl); }
u32 sub_s(u32 a, u32 b, int rm, u32& fl) { return add_s(a, b ^ Format<u32>::sign, rm, fl); }
u32 mul_s(u32 a, u32 b, int rm, u32& fl) { return multiply<f32_mul>(a, b, rm, fl); }
u32 div_s(u32 a, u32 b, int rm, u32& fl) { return divide<f32_div>(a, b, rm, fl); }
u32 sqrt_s(u32 a, int rm, u32& fl) { return square_root<f32_sqrt>(a, rm, fl); }
u32 fma_s(u32 a, u32 b, u32 c, int rm, u32& fl) {
    return multiply_add<f32_mulAdd>(a, b, c, rm, fl);
}
u32 min_s(u32 a, u32 b, u32& fl) { return lesser(a, b, fl); }
u32 max_s(u32 a, u32 b, u32& fl) { return greater(a, b, fl); }
bool eq_s(u32 a, u32 b, u32& fl) { return equal(a, b, fl); }
bool lt_s(u32 a, u32 b, u32& fl) { return less(a, b, fl); }
bool le_s(u32 a, u32 b, u32& fl) { return less_or_equal(a, b, fl); }
u32 class_s(u32 a) { return classify(a); }
u32 minimum_s(u32 a, u32 b, u32& fl) { return nan_or(lesser(a, b, fl), a, b); }
u32 maximum_s(u32 a, u32 b, u32& fl) { return nan_or(greater(a, b, fl), a, b); }
bool lt_quiet_s(u32 a, u32 b, u32& fl) { return less_quiet(a, b, fl); }
bool le_quiet_s(u32 a, u32 b, u32& fl) { return less_or_equal_quiet(a, b, fl); }
u32 round_s(u32 a, int rm, bool exact, u32& fl) { return round<f32_roundToInt>(a, rm, exact, fl); }
u32 immediate_s(u32 index) { return immediate<u32>(index); }

u64 add_d(u64 a, u64 b, int rm, u32& fl) { return add<f64_add>(a, b, rm, fl); }
u64 sub_d(u64 a, u64 b, int rm, u32& fl) { return add_d(a, b ^ Format<u64>::sign, rm, fl); }
u64 mul_d(u64 a, u64 b, int rm, u32& fl) { return multiply<f64_mul>(a, b, rm, fl); }
u64 div_d(u64 a, u64 b, int rm, u32& fl) { return divide<f64_div>(a, b, rm, fl); }
u64 sqrt_d(u64 a, int rm, u32& fl) { return square_root<f64_sqrt>(a, rm, fl); }
u64 fma_d(u64 a, u64 b, u64 c, int rm, u32& fl) {
    return multiply_add<f64_mulAdd>(a, b, c, rm, fl);
}
u64 min_d(u64 a, u64 b, u32& fl) { return lesser(a, b, fl); }
u64 max_d(u64 a, u64 b, u32& fl) { return greater(a, b, fl); }
bool eq_d(u64 a, u64 b, u32& fl) { return equal(a, b, fl); }
bool lt_d(u64 a, u64 b, u32& fl) { return less(a, b, fl); }
bool le_d(u64 a, u64 b, u32& fl) { return less_or_equal(a, b, fl); }
u32 class_d(u64 a) { return classify(a); }
u64 minimum_d(u64 a, u64 b, u32& fl) { return nan_or(lesser(a, b, fl), a, b); }
u64 maximum_d(u64 a, u64 b, u32& fl) { return nan_or(greater(a, b, fl), a, b); }
bool lt_quiet_d(u64 a, u64 b, u32& fl) { return less_quiet(a, b, fl); }
bool le_quiet_d(u64 a, u64 b, u32& fl) { return less_or_equal_quiet(a, b, fl); }
u64 round_d(u64 a, int rm, bool exact, u32& fl) { return round<f64_roundToInt>(a, rm, exact, fl); }
u64 immediate_d(u32 index) { return immediate<u64>(index); }

u64 f32_to_f64(u32 a, u32& fl) {
    u64 z;
    if (host::usable && LIKELY(host::widen(a, z))) return z;
    return soft(rne, fl, [=] { return ::f32_to_f64({a}).v; });
}

u32 f64_to_f32(u64 a, int rm, u32& fl) {
    u32 z;
    if (host::usable && LIKELY(host::narrow(a, rm, fl, z))) return z;
    return soft(rm, fl, [=] { return ::f64_to_f32({a}).v; });
}

u32 f16_to_f32(u16 a, u32& fl) {
    return soft(rne, fl, [=] { return ::f16_to_f32({a}).v; });
}
u64 f16_to_f64(u16 a, u32& fl) {
    return soft(rne, fl, [=] { return ::f16_to_f64({a}).v; });
}
u16 f32_to_f16(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return ::f32_to_f16({a}).v; });
}
u16 f64_to_f16(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return ::f64_to_f16({a}).v; });
}

u64 s_to_i32(u32 a, int rm, u32& fl) { return to_integer<i32, f32_to_i32>(a, rm, fl); }
u64 s_to_u32(u32 a, int rm, u32& fl) { return to_integer<u32, f32_to_ui32>(a, rm, fl); }
u64 s_to_i64(u32 a, int rm, u32& fl) { return to_integer<i64, f32_to_i64>(a, rm, fl); }
u64 s_to_u64(u32 a, int rm, u32& fl) { return to_integer<u64, f32_to_ui64>(a, rm, fl); }

u32 i32_to_s(u64 x, int rm, u32& fl) { return from_integer<u32, i32, i32_to_f32>(x, rm, fl); }
u32 u32_to_s(u64 x, int rm, u32& fl) { return from_integer<u32, u32, ui32_to_f32>(x, rm, fl); }
u32 i64_to_s(u64 x, int rm, u32& fl) { return from_integer<u32, i64, i64_to_f32>(x, rm, fl); }
u32 u64_to_s(u64 x, int rm, u32& fl) { return from_integer<u32, u64, ui64_to_f32>(x, rm, fl); }

u64 d_to_i32(u64 a, int rm, u32& fl) { return to_integer<i32, f64_to_i32>(a, rm, fl); }
u64 d_to_u32(u64 a, int rm, u32& fl) { return to_integer<u32, f64_to_ui32>(a, rm, fl); }
u64 d_to_i64(u64 a, int rm, u32& fl) { return to_integer<i64, f64_to_i64>(a, rm, fl); }
u64 d_to_u64(u64 a, int rm, u32& fl) { return to_integer<u64, f64_to_ui64>(a, rm, fl); }

u64 i32_to_d(u64 x, int rm, u32& fl) { return from_integer<u64, i32, i32_to_f64>(x, rm, fl); }
u64 u32_to_d(u64 x, int rm, u32& fl) { return from_integer<u64, u32, ui32_to_f64>(x, rm, fl); }
u64 i64_to_d(u64 x, int rm, u32& fl) { return from_integer<u64, i64, i64_to_f64>(x, rm, fl); }
u64 u64_to_d(u64 x, int rm, u32& fl) { return from_integer<u64, u64, ui64_to_f64>(x, rm, fl); }

u64 d_to_i32_modular(u64 a, u32& fl) {
    d_to_i32(a, rtz, fl);
    using F = Format<u64>;
    const int exponent = static_cast<int>(magnitude(a) >> F::fraction_bits);
    const u64 significand = (a & (F::least_normal - 1)) | F::least_normal;
    const int shift = exponent - F::bias - F::fraction_bits;
    // Infinities, NaNs and multiples of 2^32; or magnitudes below 1.
    if (shift >= 32 || shift < -F::fraction_bits) return 0;
    const u64 whole = shift < 0 ? significand >> -shift : significand << shift;
    return static_cast<u64>(static_cast<i32>((whole ^ sign_mask(a)) - sign_mask(a)));
}

}  // namespace fp
