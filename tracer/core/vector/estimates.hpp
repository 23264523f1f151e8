// vfrec7 and vfrsqrt7: estimates of 7 bits, exactly as the manual's tables and cases have them.
#pragma once

#include "../types.hpp"

namespace core::vector {

u32 reciprocal(u32 a, int rm, u32& fl);
u64 reciprocal(u64 a, int rm, u32& fl);
u32 reciprocal_root(u32 a, u32& fl);
u64 reciprocal_root(u64 a, u32& fl);

}  // namespace core::vector
