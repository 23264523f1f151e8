// Running a hart: the slice, the tracing level, the room in the tables.
#pragma once

#include "address_space.hpp"
#include "hart.hpp"

namespace core {

// Hart.run of _core.pyi. Throws if the hart and the address space are of different machines, or the
// machine is running already.
Stop run(Hart& h, AddressSpace& as, u64 budget, u32 tid, u32 mm);

}  // namespace core
