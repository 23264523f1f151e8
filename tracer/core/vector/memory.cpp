// Vector loads and stores, element by element, so that a trap can report the element.
#include "../semantics.hpp"
#include "operation.hpp"
#include "rows.hpp"

namespace core::vector {

namespace {

// log2 of the width field's bits.
int width(const Operation& o) {
    const int funct3 = static_cast<int>(o.bits(14, 12));
    return funct3 == 0 ? 3 : funct3 - 1;
}

// The data of an instruction: `fields` groups. Element i of field f is at address(i) + f elements.
struct Data {
    Group group;
    unsigned fields;
    u64 count;  // of elements
    bool masked;
    bool first_only = false;  // only element 0 raises faults (fault-only-first)
};

// "EMUL * NFIELDS <= 8", and "vector register numbers accessed by the segment load or store [that]
// would increment past 31" are reserved.
bool has_room(const Data& data) {
    const unsigned registers = data.group.count() * data.fields;
    return registers <= 8 && data.group.first + registers <= 32;
}

template <class T>
bool load(Operation& o, u64 address, u8* element) {
    const Tlb::Data& entry = o.as.tlb.load[Tlb::index(address)];
    T value;
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address))) {
        value = semantics::peek<T>(entry.addend + address);
    } else {
        u64 bits;
        if (!semantics::load(o.h, o.as, address, sizeof(T), bits)) return false;
        value = T(bits);
    }
    std::memcpy(element, &value, sizeof value);
    if (!o.v.access.size) o.v.access = {address, value, sizeof(T)};
    return true;
}

template <class T>
bool store(Operation& o, u64 address, const u8* element) {
    T value;
    std::memcpy(&value, element, sizeof value);
    const Tlb::Data& entry = o.as.tlb.store[Tlb::index(address)];
    if (LIKELY(Tlb::hit<sizeof(T)>(entry, address)))
        semantics::poke<T>(entry.addend + address, value);
    else if (!semantics::store(o.h, o.as, address, sizeof(T), value))
        return false;
    if (!o.v.access.size) o.v.access = {address, value, sizeof(T)};
    return true;
}

// move<T>(o, address, element) for the fields of all active elements from vstart on.
template <class Address, class Transfer>
bool transfer(Operation& o, const Data& data, Address address_of, Transfer move) {
    return with_width(data.group.eew, [&]<class T>() {
        for (u64 i = o.v.vstart; i < data.count; ++i) {
            if (data.masked && !o.bit(0, i)) continue;
            u64 address = address_of(i);
            u8* element = o.v.bytes + data.group.first * VectorState::vlenb + i * sizeof(T);
            for (unsigned field = 0; field < data.fields; ++field) {
                if (!move.template operator()<T>(o, address, element)) {
                    if (data.first_only && i > 0 && o.h.fault.cause < cause_no_frame) {
                        o.v.vl = i;
                        return o.finish();
                    }
                    o.v.vstart = i;
                    return false;
                }
                address += sizeof(T);
                element += data.group.count() * VectorState::vlenb;
            }
        }
        return o.finish();
    });
}

constexpr auto loading = []<class T>(Operation& o, u64 address, u8* element) {
    return load<T>(o, address, element);
};
constexpr auto storing = []<class T>(Operation& o, u64 address, u8* element) {
    return store<T>(o, address, element);
};

Data data_of(const Operation& o, int eew) {
    return {{o.vd, eew, o.lmul + eew - o.sew}, o.bits(31, 29) + 1, o.v.vl, o.masked};
}

template <class Transfer>
bool strided(Operation& o, const Data& data, u64 stride, Transfer move) {
    const bool loads = std::is_same_v<Transfer, std::remove_const_t<decltype(loading)>>;
    if (!(loads ? o.legal(data.group, {}) : o.legal({data.group}))) return false;
    if (!has_room(data)) return o.illegal();
    const u64 base = o.x(o.vs1);
    return transfer(o, data, [=](u64 i) { return base + i * stride; }, move);
}

template <class Transfer>
bool unit(Operation& o, bool first_only, Transfer move) {
    Data data = data_of(o, width(o));
    data.first_only = first_only;
    return strided(o, data, u64{data.fields} << (data.group.eew - 3), move);
}

// Offsets in bytes, unsigned. "The destination vector register groups cannot overlap the source
// vector register group" of an indexed segment load.
template <class Transfer>
bool indexed(Operation& o, Transfer move) {
    const bool loads = std::is_same_v<Transfer, std::remove_const_t<decltype(loading)>>;
    const Data data = data_of(o, o.sew);
    const Group index{o.vs2, width(o), o.lmul + width(o) - o.sew};
    if (!(loads ? o.legal(data.group, {index}) : o.legal({data.group, index}))) return false;
    if (!has_room(data)) return o.illegal();
    const unsigned end = data.group.first + data.group.count() * data.fields;
    const bool overlap = index.first < end && data.group.first < index.first + index.count();
    if (loads && data.fields > 1 && overlap) return o.illegal();
    const u64 base = o.x(o.vs1);
    return with_width(index.eew, [&]<class Index>() {
        return transfer(o, data, [&](u64 i) { return base + o.get<Index>(index.first, i); }, move);
    });
}

template <class Transfer>
bool mask_bytes(Operation& o, Transfer move) {
    if (!o.legal({})) return false;
    const Data data{{o.vd, 3, 0}, 1, (o.v.vl + 7) / 8, false};
    const u64 base = o.x(o.vs1);
    return transfer(o, data, [=](u64 i) { return base + i; }, move);
}

// Whole registers: the registers of all fields are one group.
template <class Transfer>
bool whole(Operation& o, int eew, Transfer move) {
    const unsigned registers = o.bits(31, 29) + 1;
    if (o.vd % registers) return o.illegal();
    const Data data{{o.vd, eew, 0}, 1, u64{registers} * VectorState::vlenb >> (eew - 3), false};
    const u64 base = o.x(o.vs1);
    return transfer(o, data, [=](u64 i) { return base + (i << (eew - 3)); }, move);
}

}  // namespace

#define VINSN(extension, name, mask, match, format, ...) \
    bool name(Operation& o) { __VA_ARGS__; }
#define LOAD_UNIT() return unit(o, false, loading)
#define LOAD_FIRST() return unit(o, true, loading)
#define STORE_UNIT() return unit(o, false, storing)
#define LOAD_STRIDED() return strided(o, data_of(o, width(o)), o.x(o.vs2), loading)
#define STORE_STRIDED() return strided(o, data_of(o, width(o)), o.x(o.vs2), storing)
#define LOAD_INDEXED() return indexed(o, loading)
#define STORE_INDEXED() return indexed(o, storing)
#define LOAD_MASK() return mask_bytes(o, loading)
#define STORE_MASK() return mask_bytes(o, storing)
#define LOAD_WHOLE() return whole(o, width(o), loading)
#define STORE_WHOLE() return whole(o, 3, storing)
#include "../isa/v_memory.inc"

}  // namespace core::vector
