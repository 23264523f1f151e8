// Masks: logic, counting, the first bit, iota.
#include "integer.hpp"
#include "rows.hpp"

namespace core::vector {

namespace {

template <class F>
bool logic(Operation& o, F f) {
    if (!o.legal({})) return false;
    return o.each([&](u64 i) { o.set_bit(o.vd, i, f(o.bit(o.vs2, i), o.bit(o.vs1, i))); });
}

// "The vstart CSR must be zero, else illegal-instruction": for all below except vid.

bool count_mask(Operation& o) {
    if (o.v.vstart) return o.illegal();
    if (!o.legal({})) return false;
    u64 count = 0;
    o.each_active([&](u64 i) { count += o.bit(o.vs2, i); });
    o.h.x[o.rd] = count;
    return true;
}

bool first_in_mask(Operation& o) {
    if (o.v.vstart) return o.illegal();
    if (!o.legal({})) return false;
    u64 first = ~u64{0};
    o.each_active([&](u64 i) {
        if (first == ~u64{0} && o.bit(o.vs2, i)) first = i;
    });
    o.h.x[o.rd] = first;
    return true;
}

// "The destination register cannot overlap the source register, and, if masked, cannot overlap the
// mask register."
template <class F>
bool set_by_first(Operation& o, F f) {
    const bool overlap = o.vd == o.vs2 || (o.masked && o.vd == 0);
    if (o.v.vstart || overlap) return o.illegal();
    if (!o.legal({})) return false;
    bool found = false;
    return o.each_active([&](u64 i) {
        const bool set = o.bit(o.vs2, i);
        o.set_bit(o.vd, i, f(found, set));
        found |= set;
    });
}

bool iota(Operation& o) {
    if (o.v.vstart) return o.illegal();
    if (!o.apart(o.group(o.vd), {Operation::mask(o.vs2)})) return false;
    u64 count = 0;
    return with_width(o.sew, [&]<class T>() {
        return o.each_active([&](u64 i) {
            o.put(o.vd, i, T(count));
            count += o.bit(o.vs2, i);
        });
    });
}

bool number_elements(Operation& o) {
    if (!o.legal(o.group(o.vd), {})) return false;
    return with_width(
        o.sew, [&]<class T>() { return o.each_active([&](u64 i) { o.put(o.vd, i, T(i)); }); });
}

}  // namespace

#define LOGIC(...) return logic(o, [](bool vs2, bool vs1) { return __VA_ARGS__; })
#define SET_BY_FIRST(...) \
    return set_by_first(o, [](bool found, [[maybe_unused]] bool vs2) { return __VA_ARGS__; })
#include "../isa/v_mask.inc"

}  // namespace core::vector
