// Fixed-point arithmetic, and Zvbb.
#include <bit>

#include "integer.hpp"
#include "rows.hpp"

namespace core::vector {

namespace {

// "roundoff(v, d) = (v >> d) + r", r by vxrm: rnu, rne, rdn, rod.
template <class Value>
Value round_off(Value value, int d, u8 vxrm) {
    if (d == 0) return value;
    const Value whole = value >> d;
    const Value rest = value & ((Value{1} << d) - 1);
    const Value half = Value{1} << (d - 1);
    switch (vxrm) {
        case 0: return whole + (rest >= half);
        case 1: return whole + (rest > half || (rest == half && (whole & 1)));
        case 2: return whole;
        default: return whole | (rest != 0);
    }
}

template <class T>
T clip(Operation& o, i128 value, i128 low, i128 high) {
    const i128 clipped = std::clamp(value, low, high);
    if (clipped != value) o.v.vxsat = true;
    return static_cast<T>(clipped);
}
template <class T>
T clip_unsigned(Operation& o, i128 value) {
    return clip<T>(o, value, 0, std::numeric_limits<T>::max());
}
template <class T>
T clip_signed(Operation& o, i128 value) {
    using Signed = std::make_signed_t<T>;
    return clip<T>(o, value, std::numeric_limits<Signed>::min(),
                   std::numeric_limits<Signed>::max());
}

template <class T>
T reversed_bits_of_bytes(T value) {
    T result = 0;
    for (int bit = 0; bit < width_of<T>; ++bit)
        result |= static_cast<T>((value >> bit & 1) << (bit ^ 7));
    return result;
}
template <class T>
T reversed_bytes(T value) {
    return static_cast<T>(__builtin_bswap64(value) >> (64 - width_of<T>));
}

}  // namespace

#define ROUND(value, d) round_off(value, d, o.v.vxrm)
#define CLIP_U(...) clip_unsigned<decltype(vd)>(o, i128(__VA_ARGS__))
#define CLIP_S(...) clip_signed<decltype(vd)>(o, i128(__VA_ARGS__))
#define WIDE_SHIFT(amount) int((amount) & (2 * WIDTH(amount) - 1))
#define UNARY(...) return single(o, unsigned_immediate, ELEMENT(__VA_ARGS__))
#include "../isa/v_fixed.inc"
#include "../isa/zvbb.inc"

}  // namespace core::vector
