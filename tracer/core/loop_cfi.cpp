#include "interpreter.hpp"

template core::Interruption core::interpret<core::level_cfi>(Hart*, AddressSpace*, u64, bool, u32,
                                                             u32);
