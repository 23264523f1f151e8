#include "fp.hpp"

#include <limits>
#include <type_traits>

extern "C" {
#include "platform.h"

#include "softfloat.h"
}

namespace fp {
namespace {

// SoftFloat's flags and rounding modes are RISC-V's, bit for bit.
static_assert(softfloat_flag_inexact == nx && softfloat_flag_underflow == uf &&
              softfloat_flag_overflow == of && softfloat_flag_infinite == dz &&
              softfloat_flag_invalid == nv);
static_assert(softfloat_round_near_even == rne && softfloat_round_minMag == rtz &&
              softfloat_round_min == rdn && softfloat_round_max == rup &&
              softfloat_round_near_maxMag == rmm);

float32_t boxed(u32 a) { return {a}; }
float64_t boxed(u64 a) { return {a}; }
u32 bits(float32_t a) { return a.v; }
u64 bits(float64_t a) { return a.v; }

// One SoftFloat operation.
template <class Operation>
auto soft(int rm, u32& fl, Operation operation) {
    softfloat_roundingMode = static_cast<uint_fast8_t>(rm);
    softfloat_exceptionFlags = 0;
    const auto result = operation();
    fl |= softfloat_exceptionFlags;
    return result;
}

// The layout of binary32 (U = u32) and binary64 (U = u64).
template <class U>
struct Format {
    static constexpr int width = std::numeric_limits<U>::digits;
    static constexpr int fraction_bits = width == 32 ? 23 : 52;
    static constexpr U sign = U{1} << (width - 1);
    static constexpr U infinity = (sign - 1) >> fraction_bits << fraction_bits;
    static constexpr U quiet = U{1} << (fraction_bits - 1);
    static constexpr U canonical_nan = infinity | quiet;
    static constexpr U least_normal = U{1} << fraction_bits;
};

template <class U>
U magnitude(U a) {
    return a & ~Format<U>::sign;
}

template <class U>
bool is_nan(U a) {
    return magnitude(a) > Format<U>::infinity;
}

template <class U>
bool is_signaling(U a) {
    return is_nan(a) && !(a & Format<U>::quiet);
}

// Orders all numbers, with -0 below +0.
template <class U>
auto total_order(U a) {
    using Signed = std::make_signed_t<U>;
    return static_cast<Signed>(a & Format<U>::sign ? a ^ (Format<U>::sign - 1) : a);
}

// Orders all numbers, with -0 equal to +0.
template <class U>
auto order(U a) {
    using Signed = std::make_signed_t<U>;
    return static_cast<Signed>(a & Format<U>::sign ? Format<U>::sign - a : a);
}

template <class U>
bool eq(U a, U b, u32& fl) {
    if (is_nan(a) || is_nan(b)) {
        if (is_signaling(a) || is_signaling(b)) fl |= nv;
        return false;
    }
    return order(a) == order(b);
}

template <class U>
bool lt(U a, U b, u32& fl) {
    if (is_nan(a) || is_nan(b)) {
        fl |= nv;
        return false;
    }
    return order(a) < order(b);
}

template <class U>
bool le(U a, U b, u32& fl) {
    if (is_nan(a) || is_nan(b)) {
        fl |= nv;
        return false;
    }
    return order(a) <= order(b);
}

template <class U>
U pick(U a, U b, bool want_less, u32& fl) {
    if (is_signaling(a) || is_signaling(b)) fl |= nv;
    if (is_nan(a)) return is_nan(b) ? Format<U>::canonical_nan : b;
    if (is_nan(b)) return a;
    return (total_order(a) < total_order(b)) == want_less ? a : b;
}

// fclass: one bit of ten, in the order of the manual's table.
template <class U>
u32 classify(U a) {
    if (is_nan(a)) return is_signaling(a) ? 1u << 8 : 1u << 9;
    const U size = magnitude(a);
    const int rank = size == Format<U>::infinity      ? 3
                     : size >= Format<U>::least_normal ? 2
                     : size != 0                       ? 1
                                                       : 0;
    return 1u << (a & Format<U>::sign ? 3 - rank : 4 + rank);
}


}  // namespace

u32 add_s(u32 a, u32 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_add(boxed(a), boxed(b))); });
}

u32 sub_s(u32 a, u32 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_sub(boxed(a), boxed(b))); });
}

u32 mul_s(u32 a, u32 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_mul(boxed(a), boxed(b))); });
}

u32 div_s(u32 a, u32 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_div(boxed(a), boxed(b))); });
}

u32 sqrt_s(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_sqrt(boxed(a))); });
}

u32 fma_s(u32 a, u32 b, u32 c, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f32_mulAdd(boxed(a), boxed(b), boxed(c))); });
}

u32 min_s(u32 a, u32 b, u32& fl) { return pick(a, b, true, fl); }
u32 max_s(u32 a, u32 b, u32& fl) { return pick(a, b, false, fl); }
bool eq_s(u32 a, u32 b, u32& fl) { return eq(a, b, fl); }
bool lt_s(u32 a, u32 b, u32& fl) { return lt(a, b, fl); }
bool le_s(u32 a, u32 b, u32& fl) { return le(a, b, fl); }
u32 class_s(u32 a) { return classify(a); }

u64 s_to_i32(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i32>(f32_to_i32(boxed(a), softfloat_roundingMode, true))); });
}

u32 i32_to_s(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(i32_to_f32(static_cast<i32>(x))); });
}

u64 s_to_u32(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i32>(f32_to_ui32(boxed(a), softfloat_roundingMode, true))); });
}

u32 u32_to_s(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(ui32_to_f32(static_cast<u32>(x))); });
}

u64 s_to_i64(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i64>(f32_to_i64(boxed(a), softfloat_roundingMode, true))); });
}

u32 i64_to_s(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(i64_to_f32(static_cast<i64>(x))); });
}

u64 s_to_u64(u32 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i64>(f32_to_ui64(boxed(a), softfloat_roundingMode, true))); });
}

u32 u64_to_s(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(ui64_to_f32(static_cast<u64>(x))); });
}

u64 add_d(u64 a, u64 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_add(boxed(a), boxed(b))); });
}

u64 sub_d(u64 a, u64 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_sub(boxed(a), boxed(b))); });
}

u64 mul_d(u64 a, u64 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_mul(boxed(a), boxed(b))); });
}

u64 div_d(u64 a, u64 b, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_div(boxed(a), boxed(b))); });
}

u64 sqrt_d(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_sqrt(boxed(a))); });
}

u64 fma_d(u64 a, u64 b, u64 c, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(f64_mulAdd(boxed(a), boxed(b), boxed(c))); });
}

u64 min_d(u64 a, u64 b, u32& fl) { return pick(a, b, true, fl); }
u64 max_d(u64 a, u64 b, u32& fl) { return pick(a, b, false, fl); }
bool eq_d(u64 a, u64 b, u32& fl) { return eq(a, b, fl); }
bool lt_d(u64 a, u64 b, u32& fl) { return lt(a, b, fl); }
bool le_d(u64 a, u64 b, u32& fl) { return le(a, b, fl); }
u32 class_d(u64 a) { return classify(a); }

u64 d_to_i32(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i32>(f64_to_i32(boxed(a), softfloat_roundingMode, true))); });
}

u64 i32_to_d(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(i32_to_f64(static_cast<i32>(x))); });
}

u64 d_to_u32(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i32>(f64_to_ui32(boxed(a), softfloat_roundingMode, true))); });
}

u64 u32_to_d(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(ui32_to_f64(static_cast<u32>(x))); });
}

u64 d_to_i64(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i64>(f64_to_i64(boxed(a), softfloat_roundingMode, true))); });
}

u64 i64_to_d(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(i64_to_f64(static_cast<i64>(x))); });
}

u64 d_to_u64(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return static_cast<u64>(static_cast<i64>(f64_to_ui64(boxed(a), softfloat_roundingMode, true))); });
}

u64 u64_to_d(u64 x, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(ui64_to_f64(static_cast<u64>(x))); });
}

u64 f32_to_f64(u32 a, u32& fl) {
    return soft(rne, fl, [=] { return bits(::f32_to_f64(boxed(a))); });
}

u32 f64_to_f32(u64 a, int rm, u32& fl) {
    return soft(rm, fl, [=] { return bits(::f64_to_f32(boxed(a))); });
}

}  // namespace fp
