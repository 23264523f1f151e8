// The choices SoftFloat leaves to whoever ports it: a 64-bit little-endian host, GCC or Clang.
#pragma once

#define LITTLEENDIAN 1
#define INLINE static inline
#define THREAD_LOCAL __thread
#define INLINE_LEVEL 5
#define SOFTFLOAT_FAST_INT64 1
#define SOFTFLOAT_FAST_DIV32TO16 1
#define SOFTFLOAT_FAST_DIV64TO32 1
#define SOFTFLOAT_BUILTIN_CLZ 1
#define SOFTFLOAT_INTRINSIC_INT128 1

#include "opts-GCC.h"
