// A libFuzzer target: text, registers and pages that nobody meant, in the interpreter and in native
// code. Both must end alike, and no sanitizer may find anything.
//
//   CC=clang CXX=clang++ cmake -S . -B build/fuzz -DSHSTK_FUZZ=ON
//   cmake --build build/fuzz -t fuzz_core
//   python tests/hostile/core_seeds.py CORPUS
//   build/fuzz/fuzz_core -fork=1 -ignore_crashes=1 -max_total_time=3600 CORPUS
//
// The input: a byte of flags, eight bytes that choose registers, then the text.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "run.hpp"

namespace {

using namespace core;

constexpr u64 text = 0x10000, data = 0x20000, shadow = 0x40000, both = 0x50000;
constexpr u64 text_size = 2 * page_size, data_size = 4 * page_size, shadow_size = page_size;
constexpr std::size_t header = 9;
constexpr u64 budget = 3000, slice = 700;

struct End {
    int stop = 0;
    u64 icount = 0;
    u64 pc = 0;
    u64 hart = 0;
    Fault fault;
    u64 memory = 0;
    u64 rows = 0;
};

u64 mixed(u64 hash, const u8* bytes, std::size_t size) {
    for (std::size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

u64 choice(u8 byte, unsigned at) {
    const u64 near[] = {data,
                        data + data_size - 8,
                        shadow + shadow_size,
                        shadow,
                        both + page_size - 4,
                        text,
                        0,
                        ~u64{0},
                        u64{1} << 63,
                        data + 1,
                        data + data_size - 1,
                        address_limit - 8,
                        0x7ff0000000000000,
                        0xffffffff7fc00000,
                        3,
                        64};
    return near[byte & 15] + (byte >> 4) * 8 * at;
}

End execute(const u8* input, std::size_t size, std::optional<u64> native_after) {
    const u8 flags = input[0];
    const unsigned levels[] = {0, trace_cfi, trace_cfi | trace_flow, trace_insn};
    auto machine = std::make_shared<Machine>(Extensions{}, levels[flags >> 6], 64, native_after);
    AddressSpace space{machine};
    Hart hart{machine};
    space.map(text, text_size, perm_r | perm_x);
    space.map(data, data_size, perm_r | perm_w);
    space.map(shadow, shadow_size, perm_r | perm_w | perm_ss);
    space.map(both, page_size, perm_r | perm_w | perm_x);
    const std::size_t length = std::min<std::size_t>(size - header, text_size);
    space.write(text, {input + header, length}, true);
    space.write(both, {input + header, std::min<std::size_t>(length, page_size)}, true);
    for (unsigned i = 0; i < 32; i++) {
        hart.x[i] = i ? choice(input[1 + i % 8], i) : 0;
        hart.f[i] = choice(input[1 + (i + 3) % 8], i);
    }
    hart.pc = text;
    hart.ssp = shadow + shadow_size - 8 * (input[1] & 7);
    hart.sse = flags & 1;
    hart.lpe = flags & 2;
    hart.pmlen = flags & 4 ? 7 : 0;
    End end;
    for (u64 done = 0; done < budget; done = machine->icount) {
        const Stop stop = run(hart, space, std::min(slice, budget - done), 1, 1);
        end.stop = stop;
        machine->tables.each_fixed([&](const char*, auto& table, unsigned) {
            table.drain([&](const char*, auto* values, u64 count, const auto&) {
                end.rows = mixed(end.rows, reinterpret_cast<const u8*>(values),
                                 values ? count * sizeof *values : 0);
            });
        });
        if (stop == stop_ecall) {
            hart.pc += 4;
        } else if (stop != stop_budget && stop != stop_flush) {
            break;
        }
    }
    end.icount = machine->icount;
    end.pc = hart.pc;
    end.hart = hart.hash();
    end.fault = hart.fault;
    u8 page[page_size];
    for (u64 at :
         {data, data + page_size, data + 2 * page_size, data + 3 * page_size, shadow, both}) {
        space.read(at, page, true);
        end.memory = mixed(end.memory, page, sizeof page);
    }
    return end;
}

void same(const char* what, u64 one, u64 other) {
    if (one == other) return;
    std::fprintf(stderr, "%s: interpreter %#llx, native %#llx\n", what, (unsigned long long)one,
                 (unsigned long long)other);
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* input, std::size_t size) {
    if (size < header + 2) return -1;
    const End one = execute(input, size, {});
    const End other = execute(input, size, 0);
    same("stop", one.stop, other.stop);
    same("icount", one.icount, other.icount);
    same("pc", one.pc, other.pc);
    same("cause", one.fault.cause, other.fault.cause);
    same("tval", one.fault.tval, other.fault.tval);
    same("registers", one.hart, other.hart);
    same("memory", one.memory, other.memory);
    same("rows", one.rows, other.rows);
    return 0;
}

#ifdef SHSTK_ENDS
// Without libFuzzer: how each file ends, for other_host.py, which compares two hosts.
int main(int argc, char** argv) {
    for (int n = 1; n < argc; n++) {
        u8 input[header + text_size];
        std::FILE* file = std::fopen(argv[n], "rb");
        const std::size_t size = file ? std::fread(input, 1, sizeof input, file) : 0;
        if (file) std::fclose(file);
        if (size < header + 2) continue;
        const End end = execute(input, size, {});
        std::printf(
            "%s: stop %d icount %llu pc %#llx cause %llu tval %#llx hart %#llx memory %#llx rows "
            "%#llx\n",
            argv[n], end.stop, (unsigned long long)end.icount, (unsigned long long)end.pc,
            (unsigned long long)end.fault.cause, (unsigned long long)end.fault.tval,
            (unsigned long long)end.hart, (unsigned long long)end.memory,
            (unsigned long long)end.rows);
    }
}
#endif
