#include "decode.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "compressed.hpp"

namespace core {

namespace {

struct Row {
    u32 mask;
    u32 match;
    Op op;
    Extension extension;
    Format format;
};

constexpr Row rows[] = {
#define INSN(extension, name, mask, match, format, ...) \
    {mask, match, op_##name, Extension::extension, Format::format},
#include "isa/all.inc"
#define VINSN(extension, name, mask, match, format, ...) \
    {mask, match, op_##name, Extension::extension, Format::format},
#include "isa/vector.inc"
};
static_assert(std::size(rows) == op_illegal);

// Rows by major opcode, those with the most fixed bits first.
using Index = std::array<std::vector<const Row*>, 32>;
const Index& index_of_rows() {
    static const Index index = [] {
        Index result;
        for (const Row& row : rows) result[(row.match >> 2) & 31].push_back(&row);
        for (auto& bucket : result)
            std::stable_sort(bucket.begin(), bucket.end(), [](const Row* a, const Row* b) {
                return std::popcount(a->mask) > std::popcount(b->mask);
            });
        return result;
    }();
    return index;
}

const Row* find_row(const Extensions& extensions, u32 word) {
    for (const Row* row : index_of_rows()[(word >> 2) & 31])
        if ((word & row->mask) == row->match && present(extensions, row->op)) return row;
    return nullptr;
}

// Bits high..low of a word.
constexpr u32 bits(u32 word, int high, int low) {
    return (word >> low) & ((u32{2} << (high - low)) - 1);
}

i32 immediate_i(u32 word) { return i32(word) >> 20; }
i32 immediate_s(u32 word) { return (i32(word) >> 25) * 32 + i32(bits(word, 11, 7)); }
i32 immediate_b(u32 word) {
    return (i32(word) >> 31) * 4096 +
           i32(bits(word, 7, 7) << 11 | bits(word, 30, 25) << 5 | bits(word, 11, 8) << 1);
}
i32 immediate_j(u32 word) {
    return (i32(word) >> 31) * (1 << 20) +
           i32(bits(word, 19, 12) << 12 | bits(word, 20, 20) << 11 | bits(word, 30, 21) << 1);
}

void set_operands(Format format, u32 word, u16 offset, Slot& slot) {
    slot.rd = static_cast<u8>(bits(word, 11, 7));
    slot.rs1 = static_cast<u8>(bits(word, 19, 15));
    slot.rs2 = static_cast<u8>(bits(word, 24, 20));
    slot.rs3 = static_cast<u8>(bits(word, 31, 27));
    switch (format) {
        case Format::NONE:
        case Format::END:
        case Format::R: break;
        case Format::I:
        case Format::FI: slot.imm = immediate_i(word); break;
        case Format::SHIFT: slot.imm = i32(bits(word, 25, 20)); break;
        case Format::S: slot.imm = immediate_s(word); break;
        case Format::B: slot.imm = immediate_b(word) + offset; break;
        case Format::U: slot.imm = i32(word & 0xfffff000); break;
        case Format::UPC: slot.imm = i32(word & 0xfffff000) + offset; break;
        case Format::J: slot.imm = immediate_j(word) + offset; break;
        case Format::CSR: slot.imm = i32(bits(word, 31, 20)); break;
        case Format::FR:
        case Format::XR:
        case Format::R4: slot.imm = i32(bits(word, 14, 12)); break;
        default: slot.imm = i32(word); break;
    }
}

constexpr char destination_of(Format format) {
    switch (format) {
        case Format::NONE:
        case Format::END:
        case Format::S:
        case Format::B:
        case Format::VS:
        case Format::VSX:
        case Format::VSV: return 0;
        case Format::FI:
        case Format::FR:
        case Format::R4:
        case Format::FV2: return 'f';
        case Format::VSETVLI:
        case Format::VSETIVLI:
        case Format::VSETVL:
        case Format::XV2: return 'x';
        default: return format < Format::VSETVLI ? 'x' : 'v';
    }
}

}  // namespace

const char destination[op_count] = {
#define INSN(extension, name, mask, match, format, ...) destination_of(Format::format),
#include "isa/all.inc"
#define VINSN(extension, name, mask, match, format, ...) destination_of(Format::format),
#include "isa/vector.inc"
};

bool ends_block(u16 op) {
    if (op == op_illegal || op == op_jalr) return true;
    const Format format = rows[op].format;
    return format == Format::B || format == Format::J || format == Format::END;
}

bool present(const Extensions& extensions, Op op) {
    return op == op_illegal || extensions.has(rows[op].extension);
}

Op decode(const Extensions& extensions, u32 word, u16 offset, Slot& slot) {
    Op op = op_illegal;
    if (is_compressed(word)) {
        op = expand_compressed(extensions, static_cast<u16>(word), offset, slot);
    } else if (const Row* row = find_row(extensions, word)) {
        op = row->op;
        set_operands(row->format, word, offset, slot);
    }
    if (destination[op] == 'x' && slot.rd == 0) slot.rd = x0_sink;
    return op;
}

}  // namespace core
