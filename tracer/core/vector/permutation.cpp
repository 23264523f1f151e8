// Moves between elements and registers, slides, gathers, compress.
#include "integer.hpp"
#include "rows.hpp"

namespace core::vector {

namespace {

bool reserved_float(Operation& o) { return o.h.frm > 4 || o.sew < 5; }

bool move_to_x(Operation& o) {
    if (!o.legal({})) return false;
    return with_width(o.sew, [&]<class T>() {
        o.h.x[o.rd] = static_cast<u64>(S(o.get<T>(o.vs2, 0)));
        return o.finish();
    });
}

bool move_to_f(Operation& o) {
    if (!o.legal({})) return false;
    if (reserved_float(o)) return o.illegal();
    o.h.f[o.rd] = o.sew == 5 ? 0xffffffff00000000 | o.get<u32>(o.vs2, 0) : o.get<u64>(o.vs2, 0);
    return o.finish();
}

// "If vstart >= vl, no operation is performed".
bool move_first(Operation& o, Source source) {
    if (!o.legal({})) return false;
    if (source == floating && reserved_float(o)) return o.illegal();
    return with_width(o.sew, [&]<class T>() {
        if (o.v.vstart < o.v.vl) o.put(o.vd, 0, o.operand<T>(source)[0]);
        return o.finish();
    });
}

// "vd[i] = vs2[i - OFFSET]" for i >= OFFSET.
bool slide_up(Operation& o, Source source) {
    if (!o.apart(o.group(o.vd), {o.group(o.vs2)})) return false;
    return with_width(o.sew, [&]<class T>() {
        const u64 offset = o.value<T>(source);
        return o.each_active([&](u64 i) {
            if (i >= offset) o.put(o.vd, i, o.get<T>(o.vs2, i - offset));
        });
    });
}

template <class T>
T element_or_zero(const Operation& o, u64 index) {
    return index < o.v.vlmax() ? o.get<T>(o.vs2, index) : T{0};
}

// "vd[i] = vs2[i + OFFSET]", zero beyond VLMAX.
bool slide_down(Operation& o, Source source) {
    if (!o.legal(o.group(o.vd), {o.group(o.vs2)})) return false;
    return with_width(o.sew, [&]<class T>() {
        const u64 offset = std::min(o.value<T>(source), o.v.vlmax());
        return o.each_active([&](u64 i) { o.put(o.vd, i, element_or_zero<T>(o, i + offset)); });
    });
}

bool slide_1_up(Operation& o, Source source) {
    if (!o.apart(o.group(o.vd), {o.group(o.vs2)})) return false;
    if (source == floating && reserved_float(o)) return o.illegal();
    return with_width(o.sew, [&]<class T>() {
        const T value = o.operand<T>(source)[0];
        return o.each_active([&](u64 i) { o.put(o.vd, i, i ? o.get<T>(o.vs2, i - 1) : value); });
    });
}

bool slide_1_down(Operation& o, Source source) {
    if (!o.legal(o.group(o.vd), {o.group(o.vs2)})) return false;
    if (source == floating && reserved_float(o)) return o.illegal();
    return with_width(o.sew, [&]<class T>() {
        const T value = o.operand<T>(source)[0];
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, i + 1 < o.v.vl ? o.get<T>(o.vs2, i + 1) : value); });
    });
}

bool gather(Operation& o) {
    if (!o.apart(o.group(o.vd), {o.group(o.vs2), o.group(o.vs1)})) return false;
    return with_width(o.sew, [&]<class T>() {
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, element_or_zero<T>(o, o.get<T>(o.vs1, i))); });
    });
}

// 16-bit indices: EMUL = 16 / SEW * LMUL.
bool gather_16(Operation& o) {
    if (!o.apart(o.group(o.vd), {o.group(o.vs2), o.group(o.vs1, 4 - o.sew)})) return false;
    return with_width(o.sew, [&]<class T>() {
        return o.each_active(
            [&](u64 i) { o.put(o.vd, i, element_or_zero<T>(o, o.get<u16>(o.vs1, i))); });
    });
}

bool gather_one(Operation& o, Source source) {
    if (!o.apart(o.group(o.vd), {o.group(o.vs2)})) return false;
    return with_width(o.sew, [&]<class T>() {
        const T value = element_or_zero<T>(o, o.value<T>(source));
        return o.each_active([&](u64 i) { o.put(o.vd, i, value); });
    });
}

// Packs the elements of vs2 that the mask vs1 selects. "A vcompress instruction with a non-zero
// vstart is reserved."
bool compress(Operation& o) {
    if (o.v.vstart) return o.illegal();
    if (!o.apart(o.group(o.vd), {o.group(o.vs2), Operation::mask(o.vs1)})) return false;
    return with_width(o.sew, [&]<class T>() {
        u64 packed = 0;
        return o.each([&](u64 i) {
            if (o.bit(o.vs1, i)) o.put(o.vd, packed++, o.get<T>(o.vs2, i));
        });
    });
}

// "operates as though EEW=SEW, EMUL=NREG, evl=EMUL * VLEN/SEW".
bool move_whole(Operation& o, unsigned registers) {
    if (!o.legal({})) return false;
    if (o.vd % registers || o.vs2 % registers) return o.illegal();
    const u64 size = registers * VectorState::vlenb;
    const u64 done = std::min(o.v.vstart << (o.sew - 3), size);
    const u8* const from = o.v.bytes + o.vs2 * VectorState::vlenb;
    std::memmove(o.v.bytes + o.vd * VectorState::vlenb + done, from + done, size - done);
    return o.finish();
}

}  // namespace

#define SLIDE_UP(source, ...) return slide_up(o, source)
#define SLIDE_DOWN(source, ...) return slide_down(o, source)
#define SLIDE_1_UP(source, ...) return slide_1_up(o, source)
#define SLIDE_1_DOWN(source, ...) return slide_1_down(o, source)
#define GATHER(source, ...) return gather(o)
#define GATHER_16(source, ...) return gather_16(o)
#define GATHER_ONE(source, ...) return gather_one(o, source)
#include "../isa/v_permutation.inc"

}  // namespace core::vector
