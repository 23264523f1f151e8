#include "listing.hpp"

namespace core {

Listed listed(u32 word) {
    static constexpr struct {
        const char* name;
        const char* format;
    } rows[] = {
#define INSN(extension, name, mask, match, format, ...) {#name, #format},
#include "isa/all.inc"
#define VINSN(extension, name, mask, match, format, ...) {#name, #format},
#include "isa/vector.inc"
    };
    Listed result;
    const Op op = decode(Extensions{}, word, 0, result.slot);
    if (op == op_illegal) return result;
    result.name = rows[op].name;
    result.format = rows[op].format;
    return result;
}

}  // namespace core
