// The layout of binary32 (U = u32) and binary64 (U = u64), and functions of the bits alone.
#pragma once

#include <limits>
#include <type_traits>

#include "fp.hpp"

namespace fp {

template <class U>
struct Format {
    static constexpr int width = std::numeric_limits<U>::digits;
    static constexpr int fraction_bits = width == 32 ? 23 : 52;
    static constexpr int bias = width == 32 ? 127 : 1023;
    static constexpr U sign = U{1} << (width - 1);
    static constexpr U least_normal = U{1} << fraction_bits;
    static constexpr U infinity = (sign - 1) & ~(least_normal - 1);
    static constexpr U quiet = least_normal >> 1;
    static constexpr U canonical_nan = infinity | quiet;
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

// All ones for a negative number. The functions below avoid branches, because signs are hard to
// predict.
template <class U>
U sign_mask(U a) {
    return U{0} - (a >> (Format<U>::width - 1));
}

// Orders all numbers, with -0 below +0.
template <class U>
auto total_order(U a) {
    return static_cast<std::make_signed_t<U>>(a ^ (sign_mask(a) >> 1));
}

// Orders all numbers, with -0 equal to +0.
template <class U>
auto order(U a) {
    const U mask = sign_mask(a);
    return static_cast<std::make_signed_t<U>>((magnitude(a) ^ mask) - mask);
}

template <class U>
bool equal(U a, U b, u32& fl) {
    if (UNLIKELY(is_nan(a) || is_nan(b))) {
        if (is_signaling(a) || is_signaling(b)) fl |= nv;
        return false;
    }
    return order(a) == order(b);
}

template <class U>
bool less(U a, U b, u32& fl) {
    if (UNLIKELY(is_nan(a) || is_nan(b))) {
        fl |= nv;
        return false;
    }
    return order(a) < order(b);
}

template <class U>
bool less_or_equal(U a, U b, u32& fl) {
    if (UNLIKELY(is_nan(a) || is_nan(b))) {
        fl |= nv;
        return false;
    }
    return order(a) <= order(b);
}

template <class U>
bool less_quiet(U a, U b, u32& fl) {
    if (UNLIKELY(is_nan(a) || is_nan(b))) {
        if (is_signaling(a) || is_signaling(b)) fl |= nv;
        return false;
    }
    return order(a) < order(b);
}

template <class U>
bool less_or_equal_quiet(U a, U b, u32& fl) {
    return equal(a, b, fl) || less_quiet(a, b, fl);
}

template <class U>
U lesser(U a, U b, u32& fl) {
    if (UNLIKELY(is_nan(a) || is_nan(b))) {
        if (is_signaling(a) || is_signaling(b)) fl |= nv;
        if (!is_nan(a)) return a;
        return is_nan(b) ? Format<U>::canonical_nan : b;
    }
    return total_order(a) < total_order(b) ? a : b;
}

template <class U>
U greater(U a, U b, u32& fl) {
    constexpr U sign = Format<U>::sign;
    const U z = lesser<U>(a ^ sign, b ^ sign, fl);
    return is_nan(z) ? z : z ^ sign;
}

// `extreme`, the lesser or greater of a and b, unless one of them is a NaN.
template <class U>
U nan_or(U extreme, U a, U b) {
    return is_nan(a) || is_nan(b) ? Format<U>::canonical_nan : extreme;
}

// fclass: one bit of ten, in the order of the manual's table.
template <class U>
u32 classify(U a) {
    if (is_nan(a)) return is_signaling(a) ? 1u << 8 : 1u << 9;
    const U size = magnitude(a);
    const int rank =
        (size != 0) + (size >= Format<U>::least_normal) + (size == Format<U>::infinity);
    return 1u << (a & Format<U>::sign ? 3 - rank : 4 + rank);
}

}  // namespace fp
