// vfrec7 and vfrsqrt7: 7-bit estimates, exactly those of the manual's tables and special cases.
#pragma once

#include "../types.hpp"

namespace core::vector {

u32 reciprocal(u32 a, int rm, u32& fl);
u64 reciprocal(u64 a, int rm, u32& fl);
u32 reciprocal_root(u32 a, u32& fl);
u64 reciprocal_root(u64 a, u32& fl);

}  // namespace core::vector
