// Integer multiplication, division, multiply-add; reductions.
#include "integer.hpp"

#include "rows.hpp"

namespace core::vector {

namespace {

// vd[0] = f(... f(vs1[0], vs2[0]) ..., vs2[vl - 1]); vd and vs1 SEW * 2^wider wide. "Vector
// reduction operations raise an illegal-instruction exception if vstart is non-zero." vd may
// overlap anything.
template <bool wide, class F>
bool reduce(Operation& o, F f) {
    const Group start{o.vs1, o.sew + wide, 0};
    if (o.v.vstart || start.eew > 6) return o.illegal();
    if (!o.legal({o.group(o.vs2), start})) return false;
    const auto gather = [&]<class T, class Sum>() {
        Sum sum = o.get<Sum>(o.vs1, 0);
        o.each_active([&](u64 i) { sum = Sum(f(sum, o.get<T>(o.vs2, i))); });
        if (o.v.vl) o.put(o.vd, 0, sum);
        return true;
    };
    if constexpr (wide)
        return with_narrow_width(
            o, [&]<class T>() { return gather.template operator()<T, Wider<T>>(); });
    else
        return with_width(o.sew, [&]<class T>() { return gather.template operator()<T, T>(); });
}

}  // namespace

#define REDUCTION(...) [&](auto sum, auto vs2) { return __VA_ARGS__; }
#define REDUCE(source, ...) return reduce<false>(o, REDUCTION(__VA_ARGS__))
#define REDUCE_WIDE(source, ...) return reduce<true>(o, REDUCTION(__VA_ARGS__))
#include "../isa/v_multiply.inc"
#include "../isa/v_reduction.inc"

}  // namespace core::vector
