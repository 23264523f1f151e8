// Integer arithmetic at SEW and to 2*SEW, comparisons, carries.
#include "integer.hpp"

#include "rows.hpp"

namespace core::vector {

namespace {

// vd.mask = f(vs2, vs1).
template <class F>
bool compare(Operation& o, Source source, F f) {
    if (!o.legal(Operation::mask(o.vd), o.group(o.vs2), source)) return false;
    return with_width(o.sew, [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each_active(
            [&](u64 i) { o.set_bit(o.vd, i, f(o.get<T>(o.vs2, i), second[i], T{0})); });
    });
}

// vd = f(vs2, vs1, carry) for all elements of the body; v0 holds the carries.
template <class F>
bool with_carry(Operation& o, Source source, F f) {
    if (!o.legal(o.group(o.vd), o.group(o.vs2), source)) return false;
    return with_width(o.sew, [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each(
            [&](u64 i) { o.put(o.vd, i, T(f(o.get<T>(o.vs2, i), second[i], T(o.bit(0, i))))); });
    });
}

// vd.mask = f(vs2, vs1, carry). If vm = 1 there are no carries in.
template <class F>
bool carry_out(Operation& o, Source source, F f) {
    if (!o.legal(Operation::mask(o.vd), o.group(o.vs2), source)) return false;
    return with_width(o.sew, [&]<class T>() {
        const auto second = o.operand<T>(source);
        return o.each([&](u64 i) {
            o.set_bit(o.vd, i, f(o.get<T>(o.vs2, i), second[i], T(o.masked && o.bit(0, i))));
        });
    });
}

// vd = f(vs2), vs2 of width SEW / 2^steps.
template <class F>
bool extend(Operation& o, int steps, F f) {
    if (!o.legal(o.group(o.vd), {o.group(o.vs2, -steps)})) return false;
    return with_width(o.sew - steps, [&]<class Narrow>() {
        return with_width(o.sew, [&]<class T>() {
            return o.each_active(
                [&](u64 i) { o.put(o.vd, i, T(f(o.get<Narrow>(o.vs2, i), T{0}, T{0}))); });
        });
    });
}

bool move(Operation& o, Source source) {
    if (!(source == vector ? o.legal(o.group(o.vd), {o.group(o.vs1)}) : o.legal(o.group(o.vd), {})))
        return false;
    return with_width(o.sew, [&]<class T>() {
        const auto value = o.operand<T>(source);
        return o.each([&](u64 i) { o.put(o.vd, i, value[i]); });
    });
}

}  // namespace

#define COMPARE(source, ...) return compare(o, source, ELEMENT(__VA_ARGS__))
#define CARRIED(...)                                                                         \
    [&]([[maybe_unused]] auto vs2, [[maybe_unused]] auto vs1, [[maybe_unused]] auto carry) { \
        return __VA_ARGS__;                                                                  \
    }
#define WITH_CARRY(source, ...) return with_carry(o, source, CARRIED(__VA_ARGS__))
#define CARRY_OUT(source, ...) return carry_out(o, source, CARRIED(__VA_ARGS__))
#define EXTEND(steps, ...) return extend(o, steps, ELEMENT(__VA_ARGS__))
#define MOVE(source) return move(o, source)
#include "../isa/v_integer.inc"

}  // namespace core::vector
