#include "interpreter.hpp"

template core::Interruption core::interpret<core::level_flow>(Hart*, AddressSpace*, u64, bool, u32,
                                                              u32);
