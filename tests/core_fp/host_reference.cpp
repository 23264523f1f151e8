// This machine's own arithmetic, with its rounding modes and flags: a reference that is independent
// of the core. It covers only what C can express: no RMM, NaNs made canonical, no invalid
// conversions.
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>

#include "../../tracer/core/types.hpp"

namespace {

template <class F, class U>
F value(U a) {
    return std::bit_cast<F>(a);
}

// x86 does not flag infinity * zero + quiet NaN; on RISC-V it is invalid.
template <class F>
F fused(F x, F y, F z) {
    const bool invalid = (std::isinf(x) && y == 0) || (x == 0 && std::isinf(y));
    return invalid ? x * y : std::fma(x, y, z);
}

u64 canonical(float x) { return std::isnan(x) ? 0x7fc00000 : std::bit_cast<u32>(x); }
u64 canonical(double x) { return std::isnan(x) ? 0x7ff8000000000000 : std::bit_cast<u64>(x); }

struct Operation {
    const char* name;
    u64 (*call)(u64 a, u64 b, u64 c);
};

// Volatile operands and results prevent the compiler from moving the operation past the flag
// accesses.
#define OPERATION(name, F, U, ...) \
    {name, [](u64 a, u64 b, u64 c) -> u64 { \
         volatile F x = value<F>(static_cast<U>(a)), y = value<F>(static_cast<U>(b)), \
                    z = value<F>(static_cast<U>(c)); \
         (void)x, (void)y, (void)z; \
         const volatile auto result = __VA_ARGS__; \
         return canonical(result); \
     }}

const Operation operations[] = {
    OPERATION("add_s", float, u32, x + y),
    OPERATION("sub_s", float, u32, x - y),
    OPERATION("mul_s", float, u32, x* y),
    OPERATION("div_s", float, u32, x / y),
    OPERATION("sqrt_s", float, u32, std::sqrt(x)),
    OPERATION("fma_s", float, u32, fused<float>(x, y, z)),
    OPERATION("f32_to_f64", float, u32, static_cast<double>(x)),
    OPERATION("add_d", double, u64, x + y),
    OPERATION("sub_d", double, u64, x - y),
    OPERATION("mul_d", double, u64, x* y),
    OPERATION("div_d", double, u64, x / y),
    OPERATION("sqrt_d", double, u64, std::sqrt(x)),
    OPERATION("fma_d", double, u64, fused<double>(x, y, z)),
    OPERATION("f64_to_f32", double, u64, static_cast<float>(x)),
    OPERATION("i32_to_s", double, u64, static_cast<float>(static_cast<i32>(std::bit_cast<i64>(x)))),
    OPERATION("i64_to_s", double, u64, static_cast<float>(std::bit_cast<i64>(x))),
    OPERATION("i64_to_d", double, u64, static_cast<double>(std::bit_cast<i64>(x))),
};

}  // namespace

extern "C" bool fp_run(const char* name, u64 n, const u64* a, const u64* b, const u64* c, int rm,
                       u32 initial, u64* results, u32* flags) {
    constexpr int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    const struct {
        int host;
        u32 guest;
    } names[] = {{FE_INEXACT, 1}, {FE_UNDERFLOW, 2}, {FE_OVERFLOW, 4}, {FE_DIVBYZERO, 8},
                 {FE_INVALID, 16}};
    for (const Operation& operation : operations) {
        if (std::strcmp(operation.name, name)) continue;
        std::fenv_t saved;
        std::feholdexcept(&saved);
        std::fesetround(modes[rm]);
        for (u64 i = 0; i < n; i++) {
            std::feclearexcept(FE_ALL_EXCEPT);
            results[i] = operation.call(a[i], b[i], c[i]);
            const int raised = std::fetestexcept(FE_ALL_EXCEPT);
            flags[i] = initial;
            for (const auto& flag : names) {
                if (raised & flag.host) flags[i] |= flag.guest;
            }
        }
        std::fesetenv(&saved);
        return true;
    }
    return false;
}
