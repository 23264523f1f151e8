// The host's arithmetic, where it provably gives the result and the flags that RISC-V requires.
//
// Each function returns whether it handled the operation; if not, fl is unchanged. All assume the
// host's default mode (see HostMode), which rounds to nearest even, and handle other rounding modes
// only if the result is exact. For an "ordinary" result, inexact is the only possible flag: it is
// set already, or it is determined by reversing the operation exactly.
#pragma once

#include <bit>
#include <utility>

#include "format.hpp"

#if defined(__x86_64__) && !defined(FP_WITHOUT_HOST)
#include <xmmintrin.h>

namespace fp::host {

constexpr bool usable = true;
const bool has_fma = __builtin_cpu_supports("fma");
inline u32 control() { return _mm_getcsr(); }
inline void set_control(u32 control) { _mm_setcsr(control); }
constexpr u32 default_control = 0x1f80;
inline void fuse(float& x, float y, float z) {
    asm("vfmadd213ss %2, %1, %0" : "+x"(x) : "x"(y), "x"(z));
}
inline void fuse(double& x, double y, double z) {
    asm("vfmadd213sd %2, %1, %0" : "+x"(x) : "x"(y), "x"(z));
}

}  // namespace fp::host
#else
namespace fp::host {

constexpr bool usable = false;
constexpr bool has_fma = false;
inline u32 control() { return 0; }
inline void set_control(u32) {}
constexpr u32 default_control = 0;
template <class F>
void fuse(F&, F, F) {}

}  // namespace fp::host
#endif

namespace fp::host {

template <class U>
using Native = std::conditional_t<sizeof(U) == 4, float, double>;

template <class U>
Native<U> native(U a) {
    return std::bit_cast<Native<U>>(a);
}

inline u32 bits(float x) { return std::bit_cast<u32>(x); }
inline u64 bits(double x) { return std::bit_cast<u64>(x); }

template <class U>
bool is_finite(U a) {
    return magnitude(a) < Format<U>::infinity;
}

template <class U>
bool is_normal(U a) {
    return magnitude(a) - Format<U>::least_normal < Format<U>::infinity - Format<U>::least_normal;
}

// Finite, and not near the least normal number, where tininess would have to be detected.
template <class U>
bool is_ordinary(U a) {
    constexpr U bottom = 2 * Format<U>::least_normal;
    return magnitude(a) - bottom < Format<U>::infinity - bottom;
}

// a * b == z without rounding, for normal numbers with z within an ulp or two of a * b.
inline bool is_product(u32 z, u32 a, u32 b) {
    return double{native(a)} * double{native(b)} == double{native(z)};
}

inline bool is_product(u64 z, u64 a, u64 b) {
    constexpr u64 hidden = Format<u64>::least_normal;
    const auto significand = [](u64 x) { return u128{(x & (hidden - 1)) | hidden}; };
    const u128 product = significand(a) * significand(b);
    const u128 wanted = significand(z) << Format<u64>::fraction_bits;
    return product == wanted || product == wanted << 1;
}

template <class U>
bool add(U a, U b, int rm, u32& fl, U& result) {
    if (UNLIKELY(rm != rne)) return false;
    const Native<U> x = native(a), y = native(b), sum = x + y;
    result = bits(sum);
    // A finite sum does not overflow, and it does not underflow because a tiny sum is exact.
    if (UNLIKELY(!is_finite(result))) return false;
    if (!(fl & nx)) {
        // Knuth's TwoSum. If the sum is exact, each step is exact and the error is zero. Otherwise
        // it is the rounding error, or a NaN or infinity if a step overflows.
        const Native<U> part = sum - x;
        const Native<U> error = (x - (sum - part)) + (y - part);
        if (error != 0) fl |= nx;
    }
    return true;
}

template <class U>
bool multiply(U a, U b, int rm, u32& fl, U& result) {
    if (UNLIKELY(rm != rne)) return false;
    result = bits(native(a) * native(b));
    if (LIKELY(is_ordinary(result))) {
        if (fl & nx) return true;
        if (UNLIKELY(!is_normal(a) || !is_normal(b))) return false;
        if (!is_product(result, a, b)) fl |= nx;
        return true;
    }
    return magnitude(result) == 0 && (magnitude(a) == 0 || magnitude(b) == 0);
}

template <class U>
bool divide(U a, U b, int rm, u32& fl, U& result) {
    if (UNLIKELY(rm != rne)) return false;
    result = bits(native(a) / native(b));
    if (LIKELY(is_ordinary(result))) {
        if (fl & nx) return true;
        if (UNLIKELY(!is_normal(a) || !is_normal(b))) return false;
        if (!is_product(a, result, b)) fl |= nx;
        return true;
    }
    return magnitude(result) == 0 && magnitude(a) == 0;
}

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

template <class U>
bool square_root(U a, int rm, u32& fl, U& result) {
    if (UNLIKELY(rm != rne || !is_normal(a) || (a & Format<U>::sign))) return false;
    result = bits(root(native(a)));
    if (!(fl & nx) && !is_product(a, result, result)) fl |= nx;
    return true;
}

template <class U>
bool multiply_add(U a, U b, U c, int rm, u32& fl, U& result) {
    if (UNLIKELY(rm != rne || !(fl & nx) || !has_fma)) return false;
    Native<U> x = native(a);
    fuse(x, native(b), native(c));
    result = bits(x);
    return is_ordinary(result);
}

// To the integer type I, sign-extended to a register.
template <class I, class U>
bool to_integer(U a, int rm, u32& fl, u64& result) {
    constexpr U two_63 = U{Format<U>::bias + 63} << Format<U>::fraction_bits;
    if (UNLIKELY(magnitude(a) >= two_63)) return false;
    const i64 whole = static_cast<i64>(native(a));
    const bool inexact = static_cast<Native<U>>(whole) != native(a);
    if (UNLIKELY(inexact && rm != rtz)) return false;
    if (UNLIKELY(!std::in_range<I>(whole))) return false;
    if (inexact) fl |= nx;
    result = static_cast<u64>(static_cast<std::make_signed_t<I>>(whole));
    return true;
}

// From the integer x of type I.
template <class U, class I>
bool from_integer(I x, int rm, u32& fl, U& result) {
    constexpr int digits = Format<U>::fraction_bits + 1;
    if constexpr (std::numeric_limits<I>::digits > digits) {
        constexpr I exact_up_to = I{1} << digits;
        const bool exact = x <= exact_up_to && (std::is_unsigned_v<I> || x >= I{0} - exact_up_to);
        if (UNLIKELY(!exact && !(rm == rne && (fl & nx)))) return false;
    }
    result = bits(static_cast<Native<U>>(x));
    return true;
}

inline bool widen(u32 a, u64& result) {
    result = bits(double{native(a)});
    return !is_nan(a);
}

inline bool narrow(u64 a, int rm, u32& fl, u32& result) {
    const float rounded = static_cast<float>(native(a));
    result = bits(rounded);
    const bool inexact = rounded != native(a);
    if (UNLIKELY(inexact && rm != rne)) return false;
    if (UNLIKELY(!is_ordinary(result))) return magnitude(a) == 0;
    if (inexact) fl |= nx;
    return true;
}

}  // namespace fp::host
