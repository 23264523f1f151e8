// The execution of a vector instruction: its operands, the checks for reserved ones, its elements.
//
// Agnostic is implemented as undisturbed: tail elements and masked-off elements keep their values,
// and so do the bits of a mask register above vl.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "../address_space.hpp"
#include "../hart.hpp"

namespace core::vector {

// Registers with elements of one width. `eew`, `emul`: log2 of bits and of registers.
struct Group {
    unsigned first;
    int eew;
    int emul;
    unsigned count() const { return emul > 0 ? 1u << emul : 1; }
    bool overlaps(const Group& other) const {
        return first < other.first + other.count() && other.first < first + count();
    }
};
constexpr int mask_eew = -1;

// The source of the second operand. Except for `vector`, it is the same for each element.
enum Source { vector, scalar, immediate, unsigned_immediate, six_bit_immediate, floating };

// The elements of a register group, or one value for all of them.
template <class T>
struct Elements {
    const u8* bytes;
    u64 same;  // mask of the index; 0: one value for all elements
    T value;
    T operator[](u64 i) const {
        if (!same) return value;
        T element;
        std::memcpy(&element, bytes + i * sizeof(T), sizeof(T));
        return element;
    }
};

class Operation {
  public:
    Operation(Hart& hart, AddressSpace& space, const Slot& slot)
        : h(hart), as(space), v(hart.v), word(static_cast<u32>(slot.imm)), rd(slot.rd), vd(slot.rd),
          vs1(slot.rs1), vs2(slot.rs2), masked(!(word >> 25 & 1)), sew(v.sew_of(v.vtype)),
          lmul(v.lmul_of(v.vtype)) {}

    u32 bits(int high, int low) const { return (word >> low) & ((u32{2} << (high - low)) - 1); }
    u64 x(unsigned i) const { return h.x[i]; }

    bool illegal() {
        h.fault.cause = cause_illegal;
        h.fault.tval = word;
        return false;
    }
    bool finish() {
        v.vstart = 0;
        return true;
    }

    // The group of a register with elements of width SEW * 2^wider.
    Group group(unsigned first, int wider = 0) const { return {first, sew + wider, lmul + wider}; }
    static Group mask(unsigned first) { return {first, mask_eew, 0}; }

    // Whether vtype is legal and the operands are not reserved; if not, calls illegal().
    bool legal(const Group& destination, std::initializer_list<Group> sources);
    // The same for instructions that write no vector, or whose destination may overlap anything.
    bool legal(std::initializer_list<Group> sources);
    // The same for two operands; the second is a group only if it is a vector.
    bool legal(const Group& destination, const Group& first, Source second) {
        if (second == vector) return legal(destination, {first, group(vs1)});
        return legal(destination, {first});
    }
    // The same where the destination is one of the sources.
    bool legal_accumulating(const Group& destination, const Group& first, Source second) {
        if (!legal(destination, first, second)) return false;
        return second == vector ? legal({destination, first, group(vs1)})
                                : legal({destination, first});
    }
    // The same for instructions whose destination must not overlap a source: slides, gathers.
    bool apart(const Group& destination, std::initializer_list<Group> sources);

    bool configure(u64 vtype, u64 avl);
    bool configure_from(u64 vtype);

    bool bit(unsigned reg, u64 i) const {
        return v.bytes[reg * VectorState::vlenb + i / 8] >> (i % 8) & 1;
    }
    void set_bit(unsigned reg, u64 i, bool value) {
        u8& byte = v.bytes[reg * VectorState::vlenb + i / 8];
        byte = static_cast<u8>((byte & ~(1u << (i % 8))) | unsigned{value} << (i % 8));
    }
    bool active(u64 i) const { return !masked || bit(0, i); }

    template <class T>
    T get(unsigned reg, u64 i) const {
        T value;
        std::memcpy(&value, v.bytes + reg * VectorState::vlenb + i * sizeof(T), sizeof(T));
        return value;
    }
    template <class T>
    void put(unsigned reg, u64 i, T value) {
        std::memcpy(v.bytes + reg * VectorState::vlenb + i * sizeof(T), &value, sizeof(T));
    }
    // The elements of the second operand.
    template <class T>
    Elements<T> operand(Source source) const {
        if (source == vector) return {v.bytes + vs1 * VectorState::vlenb, 1, 0};
        return {nullptr, 0, static_cast<T>(value<T>(source))};
    }
    template <class T>
    u64 value(Source source) const {
        switch (source) {
            case scalar: return h.x[vs1];
            case immediate: return u64(i64(vs1 ^ 16) - 16);
            case six_bit_immediate: return vs1 | bits(26, 26) << 5;
            case floating: return floating_value<T>();
            default: return vs1;
        }
    }
    // "the single ... is checked for being properly NaN-boxed".
    template <class T>
    u64 floating_value() const {
        const u64 bits = h.f[vs1];
        if (sizeof(T) == 8 || bits >> 32 == 0xffffffff) return bits;
        return 0x7fc00000;
    }
    // f(i) for the active elements of the body.
    template <class F>
    bool each_active(F&& f) {
        for (u64 i = v.vstart; i < v.vl; ++i)
            if (active(i)) f(i);
        return finish();
    }
    template <class F>
    bool each(F&& f) {
        for (u64 i = v.vstart; i < v.vl; ++i) f(i);
        return finish();
    }

    Hart& h;
    AddressSpace& as;
    VectorState& v;
    const u32 word;
    const unsigned rd;  // as decoded: x0 is redirected to x[32]
    const unsigned vd, vs1, vs2;
    const bool masked;
    const int sew, lmul;  // log2 of bits and of registers
};

// f<T>() for the unsigned T of 2^eew bits.
template <class F>
bool with_width(int eew, F&& f) {
    switch (eew) {
        case 3: return f.template operator()<u8>();
        case 4: return f.template operator()<u16>();
        case 5: return f.template operator()<u32>();
        default: return f.template operator()<u64>();
    }
}

}  // namespace core::vector
