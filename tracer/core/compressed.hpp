// C, Zcb, Zcmop and the compressed forms of Zicfiss: each expands to one instruction of isa/.
#pragma once

#include "code.hpp"
#include "machine.hpp"

namespace core {

// Sets op and operands; pc-relative immediates count from `offset`.
void expand_compressed(const Extensions& extensions, u16 half, u16 offset, Slot& slot);

}  // namespace core
