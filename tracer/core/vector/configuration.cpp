// vset{i}vl{i}.
#include "operation.hpp"
#include "rows.hpp"

namespace core::vector {

#define VINSN(extension, name, mask, match, format, ...) \
    bool name(Operation& o) { __VA_ARGS__; }
#define BITS(high, low) o.bits(high, low)
#include "../isa/v_configuration.inc"

}  // namespace core::vector
