#include "operation.hpp"

#include "../decode.hpp"

namespace core::vector {

namespace {

bool exists(const Group& group) {
    const bool width = group.eew == mask_eew || (group.eew >= 3 && group.eew <= 6);
    return width && group.emul >= -3 && group.emul <= 3 && group.first % group.count() == 0;
}

// "A destination vector register group can overlap a source vector register group only if" their
// EEWs are equal; or the destination's is smaller "and the overlap is in the lowest-numbered part
// of the source register group"; or it is greater, the source EMUL at least 1 "and the overlap is
// in the highest-numbered part of the destination register group".
bool may_overlap(const Group& destination, const Group& source) {
    if (destination.eew == source.eew || !destination.overlaps(source)) return true;
    if (destination.eew < source.eew) return destination.first == source.first;
    return source.emul >= 0 &&
           source.first + source.count() == destination.first + destination.count();
}

}  // namespace

// "A vector register cannot be used to provide source operands with more than one EEW for a single
// instruction. A mask register source is considered to have EEW=1 for this constraint."
bool Operation::legal(std::initializer_list<Group> sources) {
    if (v.vtype & VectorState::vill) return illegal();
    for (const Group& one : sources) {
        if (!exists(one)) return illegal();
        if (masked && one.eew != mask_eew && one.first == 0) return illegal();
        for (const Group& other : sources)
            if (one.eew != other.eew && one.overlaps(other)) return illegal();
    }
    return true;
}

// "The destination vector register group for a masked vector instruction cannot overlap the source
// mask register (v0), unless the destination vector register is being written with a mask value".
bool Operation::legal(const Group& destination, std::initializer_list<Group> sources) {
    if (!legal(sources)) return false;
    if (!exists(destination)) return illegal();
    if (masked && destination.eew != mask_eew && destination.first == 0) return illegal();
    for (const Group& source : sources)
        if (!may_overlap(destination, source)) return illegal();
    return true;
}

bool Operation::apart(const Group& destination, std::initializer_list<Group> sources) {
    if (!legal(destination, sources)) return false;
    for (const Group& source : sources)
        if (destination.overlaps(source)) return illegal();
    return true;
}

bool Operation::configure(u64 vtype, u64 avl) {
    v.configure(vtype, avl);
    h.x[rd] = v.vl;
    return true;
}

// "vsetvl[i] x0, x0: ... Use of the instruction with a new SEW/LMUL ratio that would result in a
// change of VLMAX is reserved. Use ... is also reserved if vill was 1 beforehand. Implementations
// may set vill in either case."
bool Operation::configure_from(u64 vtype) {
    if (vs1 != 0) return configure(vtype, h.x[vs1]);
    if (rd != x0_sink) return configure(vtype, ~u64{0});
    const bool kept =
        !(v.vtype & VectorState::vill) && sew - lmul == v.sew_of(vtype) - v.lmul_of(vtype);
    return configure(kept ? vtype : VectorState::vill, v.vl);
}

}  // namespace core::vector
