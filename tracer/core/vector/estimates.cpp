#include "estimates.hpp"

#include <array>
#include <cmath>

#include "../fp/format.hpp"
#include "../fp/fp.hpp"

namespace core::vector {

namespace {

// The tables are computed from their definition: the value at the middle of each interval, rounded.
// Index: the top 7 bits of the significand. Entry: the top 7 bits of the result's.
std::array<u8, 128> make_reciprocals() {
    std::array<u8, 128> table;
    for (int i = 0; i < 128; ++i)
        table[i] = static_cast<u8>(std::lround(128 * (256 / (128.5 + i) - 1)));
    return table;
}
// Index: the exponent's lowest bit, then the top 6 of the significand. The bias is odd: a lowest
// bit of 1 means an even exponent.
std::array<u8, 128> make_reciprocal_roots() {
    std::array<u8, 128> table;
    for (int i = 0; i < 128; ++i) {
        const double value = (i < 64 ? 2 : 1) * (1 + ((i & 63) + 0.5) / 64);
        table[i] = static_cast<u8>(std::lround(128 * (2 / std::sqrt(value) - 1)));
    }
    return table;
}
const std::array<u8, 128> reciprocals = make_reciprocals();
const std::array<u8, 128> reciprocal_roots = make_reciprocal_roots();

// A finite nonzero number: its exponent, and its significand without the leading 1. A subnormal is
// normalized, with an exponent of 0 or less.
template <class U>
struct Parts {
    using F = fp::Format<U>;
    explicit Parts(U a)
        : exponent(static_cast<int>(fp::magnitude(a) >> F::fraction_bits)),
          significand(a & (F::least_normal - 1)) {
        if (exponent) return;
        exponent = 1;
        while (!(significand & F::least_normal)) significand <<= 1, --exponent;
        significand &= F::least_normal - 1;
    }
    int exponent;
    U significand;
};

template <class U>
U estimate_reciprocal(U a, int rm, u32& fl) {
    using F = fp::Format<U>;
    const U sign = a & F::sign;
    if (fp::is_nan(a)) {
        if (fp::is_signaling(a)) fl |= fp::nv;
        return F::canonical_nan;
    }
    if (fp::magnitude(a) == F::infinity) return sign;
    if (fp::magnitude(a) == 0) {
        fl |= fp::dz;
        return sign | F::infinity;
    }
    const Parts<U> parts(a);
    if (parts.exponent < -1) {  // the result overflows
        fl |= fp::of | fp::nx;
        const bool to_greatest = rm == fp::rtz || rm == (sign ? fp::rup : fp::rdn);
        return sign | (to_greatest ? F::infinity - 1 : F::infinity);
    }
    int exponent = 2 * F::bias - 1 - parts.exponent;
    U significand = U{reciprocals[parts.significand >> (F::fraction_bits - 7)]}
                    << (F::fraction_bits - 7);
    if (exponent < 1) {  // 0 or -1: a subnormal result
        significand = (significand | F::least_normal) >> (1 - exponent);
        exponent = 0;
    }
    return sign | U(exponent) << F::fraction_bits | significand;
}

template <class U>
U estimate_reciprocal_root(U a, u32& fl) {
    using F = fp::Format<U>;
    const bool negative = a & F::sign;
    if (fp::magnitude(a) == 0) {
        fl |= fp::dz;
        return a | F::infinity;
    }
    if (fp::is_nan(a) || negative) {
        if (fp::is_signaling(a) || !fp::is_nan(a)) fl |= fp::nv;
        return F::canonical_nan;
    }
    if (a == F::infinity) return 0;
    const Parts<U> parts(a);
    const U index = U(parts.exponent & 1) << 6 | parts.significand >> (F::fraction_bits - 6);
    const int exponent = (3 * F::bias - 1 - parts.exponent) / 2;
    return U(exponent) << F::fraction_bits | U{reciprocal_roots[index]} << (F::fraction_bits - 7);
}

}  // namespace

u32 reciprocal(u32 a, int rm, u32& fl) { return estimate_reciprocal(a, rm, fl); }
u64 reciprocal(u64 a, int rm, u32& fl) { return estimate_reciprocal(a, rm, fl); }
u32 reciprocal_root(u32 a, u32& fl) { return estimate_reciprocal_root(a, fl); }
u64 reciprocal_root(u64 a, u32& fl) { return estimate_reciprocal_root(a, fl); }

}  // namespace core::vector
