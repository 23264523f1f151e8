// Floating point with SEW 32 and 64; with SEW 16 only the conversions of Zvfhmin.
#include "../fp/format.hpp"
#include "../fp/fp.hpp"
#include "estimates.hpp"
#include "operation.hpp"
#include "rows.hpp"

namespace core::vector {

namespace {

// The functions of fp/, overloaded by operand type.
#define TWO_FORMATS(name)                                                          \
    u32 name(u32 a, u32 b, int rm, u32& fl) { return fp::name##_s(a, b, rm, fl); } \
    u64 name(u64 a, u64 b, int rm, u32& fl) { return fp::name##_d(a, b, rm, fl); }
TWO_FORMATS(add)
TWO_FORMATS(sub)
TWO_FORMATS(mul)
TWO_FORMATS(div)
#undef TWO_FORMATS
u32 fma(u32 a, u32 b, u32 c, int rm, u32& fl) { return fp::fma_s(a, b, c, rm, fl); }
u64 fma(u64 a, u64 b, u64 c, int rm, u32& fl) { return fp::fma_d(a, b, c, rm, fl); }
u32 sqrt(u32 a, int rm, u32& fl) { return fp::sqrt_s(a, rm, fl); }
u64 sqrt(u64 a, int rm, u32& fl) { return fp::sqrt_d(a, rm, fl); }

template <class T>
T min(T a, T b, u32& fl) {
    return fp::lesser(a, b, fl);
}
template <class T>
T max(T a, T b, u32& fl) {
    return fp::greater(a, b, fl);
}
template <class T>
bool eq(T a, T b, u32& fl) {
    return fp::equal(a, b, fl);
}
template <class T>
bool lt(T a, T b, u32& fl) {
    return fp::less(a, b, fl);
}
template <class T>
bool le(T a, T b, u32& fl) {
    return fp::less_or_equal(a, b, fl);
}
template <class T>
T classify(T a) {
    return fp::classify(a);
}

u32 widened(u16 a, u32& fl) { return fp::f16_to_f32(a, fl); }
u64 widened(u32 a, u32& fl) { return fp::f32_to_f64(a, fl); }
u16 narrowed(u32 a, int rm, u32& fl) { return fp::f32_to_f16(a, rm, fl); }
u32 narrowed(u64 a, int rm, u32& fl) { return fp::f64_to_f32(a, rm, fl); }
// "round towards odd": discarded bits set the lowest bit.
u32 narrowed_to_odd(u64 a, u32& fl) {
    u32 own = 0;
    const u32 cut = fp::f64_to_f32(a, fp::rtz, own);
    fl |= own;
    return cut | (own & fp::nx);
}

// To the integer type of the first argument. A half-width conversion saturates the result of the
// 32-bit one, and "the exception flags are raised" as for a single conversion.
u64 to_signed(u64, u64 a, int rm, u32& fl) { return fp::d_to_i64(a, rm, fl); }
u64 to_signed(u64, u32 a, int rm, u32& fl) { return fp::s_to_i64(a, rm, fl); }
u32 to_signed(u32, u64 a, int rm, u32& fl) { return static_cast<u32>(fp::d_to_i32(a, rm, fl)); }
u32 to_signed(u32, u32 a, int rm, u32& fl) { return static_cast<u32>(fp::s_to_i32(a, rm, fl)); }
u16 to_signed(u16, u32 a, int rm, u32& fl) {
    u32 own = 0;
    const i64 whole = static_cast<i64>(fp::s_to_i32(a, rm, own));
    const i64 clipped = std::clamp<i64>(whole, INT16_MIN, INT16_MAX);
    fl |= clipped == whole ? own : fp::nv;
    return static_cast<u16>(clipped);
}
u64 to_unsigned(u64, u64 a, int rm, u32& fl) { return fp::d_to_u64(a, rm, fl); }
u64 to_unsigned(u64, u32 a, int rm, u32& fl) { return fp::s_to_u64(a, rm, fl); }
u32 to_unsigned(u32, u64 a, int rm, u32& fl) { return static_cast<u32>(fp::d_to_u32(a, rm, fl)); }
u32 to_unsigned(u32, u32 a, int rm, u32& fl) { return static_cast<u32>(fp::s_to_u32(a, rm, fl)); }
u16 to_unsigned(u16, u32 a, int rm, u32& fl) {
    u32 own = 0;
    const u32 whole = static_cast<u32>(fp::s_to_u32(a, rm, own));
    const u32 clipped = std::min<u32>(whole, UINT16_MAX);
    fl |= clipped == whole ? own : fp::nv;
    return static_cast<u16>(clipped);
}

// To the floating-point type of the first argument.
u64 from_signed(u64, u64 x, int rm, u32& fl) { return fp::i64_to_d(x, rm, fl); }
u64 from_signed(u64, u32 x, int rm, u32& fl) { return fp::i32_to_d(x, rm, fl); }
u32 from_signed(u32, u64 x, int rm, u32& fl) { return fp::i64_to_s(x, rm, fl); }
u32 from_signed(u32, u32 x, int rm, u32& fl) { return fp::i32_to_s(x, rm, fl); }
u32 from_signed(u32, u16 x, int rm, u32& fl) { return fp::i32_to_s(u64(i64(i16(x))), rm, fl); }
u64 from_unsigned(u64, u64 x, int rm, u32& fl) { return fp::u64_to_d(x, rm, fl); }
u64 from_unsigned(u64, u32 x, int rm, u32& fl) { return fp::u32_to_d(x, rm, fl); }
u32 from_unsigned(u32, u64 x, int rm, u32& fl) { return fp::u64_to_s(x, rm, fl); }
u32 from_unsigned(u32, u32 x, int rm, u32& fl) { return fp::u32_to_s(x, rm, fl); }
u32 from_unsigned(u32, u16 x, int rm, u32& fl) { return fp::u32_to_s(x, rm, fl); }

// The SEWs that an instruction supports, as a set.
constexpr int e16 = 1 << 4, e32 = 1 << 5, e64 = 1 << 6;

bool supported(Operation& o, int widths) {
    return (1 << o.sew & widths && o.h.frm <= 4) || o.illegal();
}

// vd = f(vs2, vs1, vd), all SEW wide.
template <class F>
bool single(Operation& o, Source source, F f) {
    if (!o.legal(o.group(o.vd), o.group(o.vs2), source) || !supported(o, e32 | e64)) return false;
    const auto run = [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, T(f(o.get<T>(o.vs2, i), second[i], o.get<T>(o.vd, i)))); });
    };
    return o.sew == 5 ? run.template operator()<u32>() : run.template operator()<u64>();
}

// vd = f(vs2, vs1, vd) in 64 bits; vs1 is widened from 32, and vs2 too unless it is `wide`.
template <bool wide, class F>
bool from_widened(Operation& o, Source source, F f) {
    if (!supported(o, e32)) return false;
    const auto second = o.operand<u32>(source);
    u32& fl = o.h.fflags;
    return o.each_active([&](u64 i) {
        const u64 first = wide ? o.get<u64>(o.vs2, i) : widened(o.get<u32>(o.vs2, i), fl);
        o.put(o.vd, i, f(first, widened(second[i], fl), o.get<u64>(o.vd, i)));
    });
}

template <bool wide, class F>
bool widening(Operation& o, Source source, F f) {
    return o.legal(o.group(o.vd, 1), o.group(o.vs2, wide), source) &&
           from_widened<wide>(o, source, f);
}
template <class F>
bool widening_accumulating(Operation& o, Source source, F f) {
    return o.legal_accumulating(o.group(o.vd, 1), o.group(o.vs2), source) &&
           from_widened<false>(o, source, f);
}

template <class F>
bool compare(Operation& o, Source source, F f) {
    if (!o.legal(Operation::mask(o.vd), o.group(o.vs2), source) || !supported(o, e32 | e64))
        return false;
    const auto run = [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each_active(
            [&](u64 i) { o.set_bit(o.vd, i, f(o.get<T>(o.vs2, i), second[i], T{0})); });
    };
    return o.sew == 5 ? run.template operator()<u32>() : run.template operator()<u64>();
}

// vmerge and vmv: the scalar where v0 is set, or everywhere.
bool merge(Operation& o, bool by_mask) {
    const bool legal =
        by_mask ? o.legal(o.group(o.vd), {o.group(o.vs2)}) : o.legal(o.group(o.vd), {});
    if (!legal || !supported(o, e32 | e64)) return false;
    const auto run = [&]<class T>() {
        const T value = o.operand<T>(floating)[0];
        return o.each(
            [&](u64 i) { o.put(o.vd, i, by_mask && !o.bit(0, i) ? o.get<T>(o.vs2, i) : value); });
    };
    return o.sew == 5 ? run.template operator()<u32>() : run.template operator()<u64>();
}

// vd[0] = f(... f(vs1[0], vs2[0]) ..., vs2[vl - 1]), in this order; vstart must be 0.
template <bool wide, class F>
bool reduce(Operation& o, F f) {
    const Group start{o.vs1, o.sew + wide, 0};
    if (o.v.vstart) return o.illegal();
    if (!o.legal({o.group(o.vs2), start}) || !supported(o, wide ? e32 : e32 | e64)) return false;
    const auto run = [&]<class T>() {
        T sum = o.get<T>(o.vs1, 0);
        o.each_active([&](u64 i) {
            if constexpr (wide)
                sum = f(sum, widened(o.get<u32>(o.vs2, i), o.h.fflags));
            else
                sum = f(sum, o.get<T>(o.vs2, i));
        });
        if (o.v.vl) o.put(o.vd, 0, sum);
        return true;
    };
    if constexpr (wide)
        return run.template operator()<u64>();
    else
        return o.sew == 5 ? run.template operator()<u32>() : run.template operator()<u64>();
}

// vd = f(vs2) from the type From to the type To.
template <class To, class From, class F>
bool convert(Operation& o, F f) {
    return o.each_active([&](u64 i) { o.put(o.vd, i, To(f(To{0}, o.get<From>(o.vs2, i)))); });
}

}  // namespace

#define VINSN(extension, name, mask, match, format, ...) \
    bool name(Operation& o) { __VA_ARGS__; }
#define RM int(o.h.frm)
#define FL o.h.fflags
#define SIGN(element) fp::Format<decltype(element)>::sign
#define NEGATED(element) (element ^ SIGN(element))
#define ELEMENT(...)                                                                      \
    [&]([[maybe_unused]] auto vs2, [[maybe_unused]] auto vs1, [[maybe_unused]] auto vd) { \
        return __VA_ARGS__;                                                               \
    }
#define SINGLE(source, ...) return single(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN(source, ...) return widening<false>(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN_WIDE(source, ...) return widening<true>(o, source, ELEMENT(__VA_ARGS__))
#define WIDEN_ADD(source, ...) return widening_accumulating(o, source, ELEMENT(__VA_ARGS__))
#define COMPARE(source, ...) return compare(o, source, ELEMENT(__VA_ARGS__))
#define MERGE() return merge(o, true)
#define MOVE() return merge(o, false)
#define REDUCTION(...) [&](auto sum, auto vs2) { return __VA_ARGS__; }
#define REDUCE(source, ...) return reduce<false>(o, REDUCTION(__VA_ARGS__))
#define REDUCE_WIDE(source, ...) return reduce<true>(o, REDUCTION(__VA_ARGS__))
#define UNARY(...) return single(o, floating, ELEMENT(__VA_ARGS__))
// vd is a zero of the result type.
#define CONVERSION(...) [&]([[maybe_unused]] auto vd, auto vs2) { return __VA_ARGS__; }
#define UNARY_WIDE(widths, ...)                                                              \
    if (!o.legal(o.group(o.vd, 1), {o.group(o.vs2)}) || !supported(o, widths)) return false; \
    if constexpr ((widths) & e16)                                                            \
        if (o.sew == 4) return convert<u32, u16>(o, CONVERSION(__VA_ARGS__));                \
    return convert<u64, u32>(o, CONVERSION(__VA_ARGS__))
#define UNARY_NARROW(widths, ...)                                                            \
    if (!o.legal(o.group(o.vd), {o.group(o.vs2, 1)}) || !supported(o, widths)) return false; \
    if constexpr ((widths) & e16)                                                            \
        if (o.sew == 4) return convert<u16, u32>(o, CONVERSION(__VA_ARGS__));                \
    return convert<u32, u64>(o, CONVERSION(__VA_ARGS__))
#include "../isa/v_float.inc"

}  // namespace core::vector
