#include "execute.hpp"

#include "../decode.hpp"
#include "operation.hpp"
#include "rows.hpp"

namespace core::vector {

#define VINSN(extension, name, ...) bool name(Operation& o);
#include "../isa/vector.inc"

namespace {

using Body = bool (*)(Operation&);
constexpr Body bodies[] = {
#define VINSN(extension, name, ...) name,
#include "../isa/vector.inc"
};
static_assert(std::size(bodies) == op_illegal - op_first_vector);

}  // namespace

bool execute(Hart& h, AddressSpace& as, const Slot& slot, u16 op) {
    Operation operation(h, as, slot);
    if (!h.v.enabled) return operation.illegal();
    h.v.used = true;
    h.v.access = {};
    return bodies[op - op_first_vector](operation);
}

}  // namespace core::vector
