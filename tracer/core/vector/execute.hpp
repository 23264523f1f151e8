// The loop's entry to the vector instructions.
#pragma once

#include "../address_space.hpp"
#include "../hart.hpp"

namespace core::vector {

// Executes the instruction of `slot`. False: an exception, in h.fault except for the word. A store
// may have dropped decoded text. h.v.access describes the first element in memory.
bool execute(Hart& h, AddressSpace& as, const Slot& slot, u16 op);

}  // namespace core::vector
