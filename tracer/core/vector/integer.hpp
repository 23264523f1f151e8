// The macros for rows of integer arithmetic: v_integer.inc, v_multiply.inc, v_fixed.inc,
// v_reduction.inc, zvbb.inc. T is the unsigned type of an element, W the type of twice its width.
#pragma once

#include <limits>
#include <type_traits>

#include "operation.hpp"

namespace core::vector {

template <class T>
struct WiderThan;
template <>
struct WiderThan<u8> {
    using Type = u16;
};
template <>
struct WiderThan<u16> {
    using Type = u32;
};
template <>
struct WiderThan<u32> {
    using Type = u64;
};
template <class T>
using Wider = typename WiderThan<T>::Type;

inline u128 Z(u128 value) { return value; }
template <class T>
i128 S(T value) {
    return static_cast<std::make_signed_t<T>>(value);
}

template <class T>
constexpr int width_of = std::numeric_limits<T>::digits;

// vd = f(vs2, vs1, vd), all SEW wide.
template <class F>
bool single(Operation& o, Source source, F f) {
    if (!o.legal(o.group(o.vd), o.group(o.vs2), source)) return false;
    return with_width(o.sew, [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, T(f(o.get<T>(o.vs2, i), second[i], o.get<T>(o.vd, i)))); });
    });
}

// f<T>() for the types with a wider one, that is SEW < ELEN.
template <class F>
bool with_narrow_width(Operation& o, F&& f) {
    switch (o.sew) {
        case 3: return f.template operator()<u8>();
        case 4: return f.template operator()<u16>();
        default: return f.template operator()<u32>();
    }
}

// vd = f(vs2, vs1, vd), vd 2*SEW wide, and vs2 too if it is `wide`.
template <bool wide, class F>
bool widened(Operation& o, Source source, F f) {
    return with_narrow_width(o, [&]<class T>() {
        using W = Wider<T>;
        const auto second = o.operand<T>(source);
        return o.each_active([&](u64 i) {
            const auto first = o.get<std::conditional_t<wide, W, T>>(o.vs2, i);
            o.put(o.vd, i, W(f(first, second[i], o.get<W>(o.vd, i))));
        });
    });
}

template <bool wide, class F>
bool widening(Operation& o, Source source, F f) {
    return o.legal(o.group(o.vd, 1), o.group(o.vs2, wide), source) && widened<wide>(o, source, f);
}
template <class F>
bool widening_accumulating(Operation& o, Source source, F f) {
    return o.legal_accumulating(o.group(o.vd, 1), o.group(o.vs2), source) &&
           widened<false>(o, source, f);
}

// vd = f(vs2, vs1), vs2 2*SEW wide.
template <class F>
bool narrowing(Operation& o, Source source, F f) {
    if (!o.legal(o.group(o.vd), o.group(o.vs2, 1), source)) return false;
    return with_narrow_width(o, [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, T(f(o.get<Wider<T>>(o.vs2, i), second[i], T{0}))); });
    });
}

}  // namespace core::vector

#define VINSN(extension, name, mask, match, format, ...) \
    bool name(Operation& o) { __VA_ARGS__; }
#define ELEMENT(...)                                                                      \
    [&]([[maybe_unused]] auto vs2, [[maybe_unused]] auto vs1, [[maybe_unused]] auto vd) { \
        return __VA_ARGS__;                                                               \
    }
#define SINGLE(source, ...) return single(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN(source, ...) return widening<false>(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN_WIDE(source, ...) return widening<true>(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN_ADD(source, ...) return widening_accumulating(o, source, ELEMENT(__VA_ARGS__))
#define NARROW(source, ...) return narrowing(o, source, ELEMENT(__VA_ARGS__))
#define MAXIMUM(element) std::numeric_limits<decltype(element)>::max()
#define WIDTH(element) width_of<decltype(element)>
// The shift amount for an element as wide as `of`.
#define SHIFT(amount, of) int((amount) & (WIDTH(of) - 1))
