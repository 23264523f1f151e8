// The arithmetic of tracer/core/fp behind one C function, for test_*.py; built with and without the
// host's arithmetic. Operands and results are always 64 bits wide.
#include <bit>
#include <cstring>

#include "fp.hpp"

namespace {

struct Operation {
    const char* name;
    u64 (*call)(u64 a, u64 b, u64 c, int rm, u32& fl);
};

#define OPERATION(name, ...) \
    {#name, [](u64 a, u64 b, u64 c, int rm, u32& fl) -> u64 { \
         (void)a, (void)b, (void)c, (void)rm, (void)fl; \
         return fp::name(__VA_ARGS__); \
     }}

#define FORMAT_OPERATIONS(s, U) \
    OPERATION(add_##s, U(a), U(b), rm, fl), OPERATION(sub_##s, U(a), U(b), rm, fl), \
    OPERATION(mul_##s, U(a), U(b), rm, fl), OPERATION(div_##s, U(a), U(b), rm, fl), \
    OPERATION(sqrt_##s, U(a), rm, fl), OPERATION(fma_##s, U(a), U(b), U(c), rm, fl), \
    OPERATION(min_##s, U(a), U(b), fl), OPERATION(max_##s, U(a), U(b), fl), \
    OPERATION(eq_##s, U(a), U(b), fl), OPERATION(lt_##s, U(a), U(b), fl), \
    OPERATION(le_##s, U(a), U(b), fl), OPERATION(class_##s, U(a)), \
    OPERATION(minimum_##s, U(a), U(b), fl), OPERATION(maximum_##s, U(a), U(b), fl), \
    OPERATION(lt_quiet_##s, U(a), U(b), fl), OPERATION(le_quiet_##s, U(a), U(b), fl), \
    OPERATION(round_##s, U(a), rm, (b & 1) != 0, fl), \
    OPERATION(s##_to_i32, U(a), rm, fl), OPERATION(s##_to_u32, U(a), rm, fl), \
    OPERATION(s##_to_i64, U(a), rm, fl), OPERATION(s##_to_u64, U(a), rm, fl), \
    OPERATION(i32_to_##s, a, rm, fl), OPERATION(u32_to_##s, a, rm, fl), \
    OPERATION(i64_to_##s, a, rm, fl), OPERATION(u64_to_##s, a, rm, fl)

const Operation operations[] = {
    FORMAT_OPERATIONS(s, u32),
    FORMAT_OPERATIONS(d, u64),
    OPERATION(f32_to_f64, u32(a), fl),
    OPERATION(f64_to_f32, a, rm, fl),
    OPERATION(f16_to_f32, u16(a), fl),
    OPERATION(f16_to_f64, u16(a), fl),
    OPERATION(f32_to_f16, u32(a), rm, fl),
    OPERATION(f64_to_f16, a, rm, fl),
    OPERATION(d_to_i32_modular, a, fl),
};

u64 next(u64& state) {  // splitmix64
    u64 z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

}  // namespace

// Random operands for which arithmetic is hard: exponents near the ends, near each other and near
// the limits of integers, and fractions with long runs of equal bits; and small integers, whose
// quotients and roots are often exact. width 0 is an integer register.
extern "C" void fp_operands(u64 seed, u64 n, int width, u64* operands) {
    u64 state = seed;
    for (u64 i = 0; i < n; i++) {
        const u64 choice = next(state);
        u64 pattern = next(state);
        if (choice & 1) pattern = (u64{0} - (pattern & 1)) << (choice >> 32 & 63);
        if (choice & 2) pattern ^= u64{1} << (choice >> 40 & 63);
        if (choice & 4) pattern += (choice >> 48 & 7) - 3;
        if (width == 16) {
            operands[i] = pattern & 0xffff;
            continue;
        }
        if (width == 0) {
            operands[i] = static_cast<u64>(static_cast<i64>(pattern) >> (choice >> 56 & 63));
            continue;
        }
        if ((choice >> 9 & 3) == 0) {
            const u32 small = choice >> 16 & 0xff;
            operands[i] = width == 32 ? std::bit_cast<u32>(static_cast<float>(small))
                                      : std::bit_cast<u64>(static_cast<double>(small));
            continue;
        }
        const int fraction_bits = width == 32 ? 23 : 52;
        const u64 top = width == 32 ? 255 : 2047, middle = top / 2;
        const u64 near = next(state);
        const u64 places[] = {0, top, middle, middle + 31, middle + 63, middle / 2, near, near};
        const u64 exponent = (places[choice >> 3 & 7] + (choice >> 6 & 3) - 1) & top;
        const u64 fraction = pattern & ((u64{1} << fraction_bits) - 1);
        operands[i] = (choice >> 8 & 1) << (width - 1) | exponent << fraction_bits | fraction;
    }
}

// Runs the operation over n operands, each with fflags starting at `initial`. False: no such name.
extern "C" bool fp_run(const char* name, u64 n, const u64* a, const u64* b, const u64* c, int rm,
                       u32 initial, u64* results, u32* flags) {
    const fp::HostMode mode;
    for (const Operation& operation : operations) {
        if (std::strcmp(operation.name, name)) continue;
        for (u64 i = 0; i < n; i++) {
            flags[i] = initial;
            results[i] = operation.call(a[i], b[i], c[i], rm, flags[i]);
        }
        return true;
    }
    return false;
}
