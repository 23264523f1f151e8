// C, Zcb, Zcmop and the compressed forms of Zicfiss: each expands to one instruction of isa/.
#pragma once

#include "code.hpp"
#include "decode.hpp"
#include "machine.hpp"

namespace core {

// As decode(), for a halfword.
Op expand_compressed(const Extensions& extensions, u16 half, u16 offset, Slot& slot);

}  // namespace core
