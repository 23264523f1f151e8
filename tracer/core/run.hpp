// Runs a hart for a time slice, at the machine's tracing level, while the tables have room.
#pragma once

#include "address_space.hpp"
#include "hart.hpp"

namespace core {

// Hart.run of _core.pyi. Throws if the hart and the address space belong to different machines, or
// if the machine is already running.
Stop run(Hart& h, AddressSpace& as, u64 budget, u32 tid, u32 mm);

}  // namespace core
