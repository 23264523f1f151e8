#include "compressed.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace core {

namespace {

// Bits high..low of the halfword, moved to start at bit `to`.
constexpr u32 field(u32 half, int high, int low, int to = 0) {
    return ((half >> low) & ((u32{2} << (high - low)) - 1)) << to;
}
constexpr i32 sign_extend(u32 value, int width) {
    return i32(value << (32 - width)) >> (32 - width);
}

// The operand layouts. Three-bit fields select x8..x15.
constexpr u8 wide(u32 half) { return static_cast<u8>(field(half, 11, 7)); }
constexpr u8 wide2(u32 half) { return static_cast<u8>(field(half, 6, 2)); }
constexpr u8 high3(u32 half) { return static_cast<u8>(8 + field(half, 9, 7)); }
constexpr u8 low3(u32 half) { return static_cast<u8>(8 + field(half, 4, 2)); }
constexpr u32 six(u32 half) { return field(half, 12, 12, 5) | field(half, 6, 2); }

using Operands = void (*)(u32 half, Slot& s);

void none(u32, Slot& s) { s.rd = s.rs1 = s.rs2 = 0; }
void addi4spn(u32 h, Slot& s) {
    s.rd = low3(h), s.rs1 = 2;
    s.imm = i32(field(h, 12, 11, 4) | field(h, 10, 7, 6) | field(h, 6, 6, 2) | field(h, 5, 5, 3));
}
// Loads and stores with a base in x8..x15; rd and rs2 are the same bits.
void base3(u32 h, Slot& s, u32 imm) { s.rd = s.rs2 = low3(h), s.rs1 = high3(h), s.imm = i32(imm); }
void base_b(u32 h, Slot& s) { base3(h, s, field(h, 6, 6) | field(h, 5, 5, 1)); }
void base_h(u32 h, Slot& s) { base3(h, s, field(h, 5, 5, 1)); }
void base_w(u32 h, Slot& s) {
    base3(h, s, field(h, 12, 10, 3) | field(h, 6, 6, 2) | field(h, 5, 5, 6));
}
void base_d(u32 h, Slot& s) { base3(h, s, field(h, 12, 10, 3) | field(h, 6, 5, 6)); }
// Loads and stores relative to sp.
void load_sp_w(u32 h, Slot& s) {
    s.rd = wide(h), s.rs1 = 2;
    s.imm = i32(field(h, 12, 12, 5) | field(h, 6, 4, 2) | field(h, 3, 2, 6));
}
void load_sp_d(u32 h, Slot& s) {
    s.rd = wide(h), s.rs1 = 2;
    s.imm = i32(field(h, 12, 12, 5) | field(h, 6, 5, 3) | field(h, 4, 2, 6));
}
void store_sp_w(u32 h, Slot& s) {
    s.rs2 = wide2(h), s.rs1 = 2, s.imm = i32(field(h, 12, 9, 2) | field(h, 8, 7, 6));
}
void store_sp_d(u32 h, Slot& s) {
    s.rs2 = wide2(h), s.rs1 = 2, s.imm = i32(field(h, 12, 10, 3) | field(h, 9, 7, 6));
}
void rd_imm(u32 h, Slot& s) { s.rd = s.rs1 = wide(h), s.imm = sign_extend(six(h), 6); }
void li(u32 h, Slot& s) { s.rd = wide(h), s.rs1 = 0, s.imm = sign_extend(six(h), 6); }
void lui(u32 h, Slot& s) { s.rd = wide(h), s.imm = sign_extend(six(h), 6) * 4096; }
void addi16sp(u32 h, Slot& s) {
    s.rd = s.rs1 = 2;
    s.imm = sign_extend(field(h, 12, 12, 9) | field(h, 6, 6, 4) | field(h, 5, 5, 6) |
                            field(h, 4, 3, 7) | field(h, 2, 2, 5),
                        10);
}
void slli(u32 h, Slot& s) { s.rd = s.rs1 = wide(h), s.imm = i32(six(h)); }
void shift3(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.imm = i32(six(h)); }
void imm3(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.imm = sign_extend(six(h), 6); }
void two3(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.rs2 = low3(h); }
void zext_b(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.imm = 255; }
void zext_w(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.rs2 = 0; }
void invert(u32 h, Slot& s) { s.rd = s.rs1 = high3(h), s.imm = -1; }
void jump(u32 h, Slot& s) {
    s.rd = 0;
    s.imm += sign_extend(field(h, 12, 12, 11) | field(h, 11, 11, 4) | field(h, 10, 9, 8) |
                             field(h, 8, 8, 10) | field(h, 7, 7, 6) | field(h, 6, 6, 7) |
                             field(h, 5, 3, 1) | field(h, 2, 2, 5),
                         12);
}
void branch(u32 h, Slot& s) {
    s.rs1 = high3(h), s.rs2 = 0;
    s.imm += sign_extend(field(h, 12, 12, 8) | field(h, 11, 10, 3) | field(h, 6, 5, 6) |
                             field(h, 4, 3, 1) | field(h, 2, 2, 5),
                         9);
}
void jr(u32 h, Slot& s) { s.rd = 0, s.rs1 = wide(h), s.imm = 0; }
void jalr(u32 h, Slot& s) { s.rd = 1, s.rs1 = wide(h), s.imm = 0; }
void mv(u32 h, Slot& s) { s.rd = wide(h), s.rs1 = 0, s.rs2 = wide2(h); }
void add(u32 h, Slot& s) { s.rd = s.rs1 = wide(h), s.rs2 = wide2(h); }
void push_x1(u32, Slot& s) { s.rd = s.rs1 = 0, s.rs2 = 1; }
void pop_x5(u32, Slot& s) { s.rd = s.rs2 = 0, s.rs1 = 5; }

struct Row {
    const char* name;
    u16 mask;
    u16 match;
    Op op;
    Operands operands;
};

// Reserved encodings have their own rows: the matching row with the most fixed bits wins. A row is
// present if the instruction that it expands to is.
constexpr Row rows[] = {
    {"reserved c.addi4spn 0", 0xffe3, 0x0000, op_illegal, none},
    {"c.addi4spn", 0xe003, 0x0000, op_addi, addi4spn},
    {"c.fld", 0xe003, 0x2000, op_fld, base_d},
    {"c.lw", 0xe003, 0x4000, op_lw, base_w},
    {"c.ld", 0xe003, 0x6000, op_ld, base_d},
    {"c.lbu", 0xfc03, 0x8000, op_lbu, base_b},
    {"c.lhu", 0xfc43, 0x8400, op_lhu, base_h},
    {"c.lh", 0xfc43, 0x8440, op_lh, base_h},
    {"c.sb", 0xfc03, 0x8800, op_sb, base_b},
    {"c.sh", 0xfc43, 0x8c00, op_sh, base_h},
    {"c.fsd", 0xe003, 0xa000, op_fsd, base_d},
    {"c.sw", 0xe003, 0xc000, op_sw, base_w},
    {"c.sd", 0xe003, 0xe000, op_sd, base_d},

    {"c.addi", 0xe003, 0x0001, op_addi, rd_imm},
    {"reserved c.addiw x0", 0xef83, 0x2001, op_illegal, none},
    {"c.addiw", 0xe003, 0x2001, op_addiw, rd_imm},
    {"c.li", 0xe003, 0x4001, op_addi, li},
    {"reserved c.lui 0", 0xf07f, 0x6001, op_illegal, none},
    {"c.lui", 0xe003, 0x6001, op_lui, lui},
    {"c.addi16sp", 0xef83, 0x6101, op_addi, addi16sp},
    {"reserved c.addi16sp 0", 0xffff, 0x6101, op_illegal, none},
    {"c.mop.n", 0xf8ff, 0x6081, op_fence, none},
    {"c.sspush x1", 0xffff, 0x6081, op_sspush, push_x1},
    {"c.sspopchk x5", 0xffff, 0x6281, op_sspopchk, pop_x5},
    {"c.srli", 0xec03, 0x8001, op_srli, shift3},
    {"c.srai", 0xec03, 0x8401, op_srai, shift3},
    {"c.andi", 0xec03, 0x8801, op_andi, imm3},
    {"c.sub", 0xfc63, 0x8c01, op_sub, two3},
    {"c.xor", 0xfc63, 0x8c21, op_xor, two3},
    {"c.or", 0xfc63, 0x8c41, op_or, two3},
    {"c.and", 0xfc63, 0x8c61, op_and, two3},
    {"c.subw", 0xfc63, 0x9c01, op_subw, two3},
    {"c.addw", 0xfc63, 0x9c21, op_addw, two3},
    {"c.mul", 0xfc63, 0x9c41, op_mul, two3},
    {"c.zext.b", 0xfc7f, 0x9c61, op_andi, zext_b},
    {"c.sext.b", 0xfc7f, 0x9c65, op_sext_b, two3},
    {"c.zext.h", 0xfc7f, 0x9c69, op_zext_h, two3},
    {"c.sext.h", 0xfc7f, 0x9c6d, op_sext_h, two3},
    {"c.zext.w", 0xfc7f, 0x9c71, op_add_uw, zext_w},
    {"c.not", 0xfc7f, 0x9c75, op_xori, invert},
    {"c.j", 0xe003, 0xa001, op_jal, jump},
    {"c.beqz", 0xe003, 0xc001, op_beq, branch},
    {"c.bnez", 0xe003, 0xe001, op_bne, branch},

    {"c.slli", 0xe003, 0x0002, op_slli, slli},
    {"c.fldsp", 0xe003, 0x2002, op_fld, load_sp_d},
    {"reserved c.lwsp x0", 0xef83, 0x4002, op_illegal, none},
    {"c.lwsp", 0xe003, 0x4002, op_lw, load_sp_w},
    {"reserved c.ldsp x0", 0xef83, 0x6002, op_illegal, none},
    {"c.ldsp", 0xe003, 0x6002, op_ld, load_sp_d},
    {"reserved c.jr x0", 0xffff, 0x8002, op_illegal, none},
    {"c.jr", 0xf07f, 0x8002, op_jalr, jr},
    {"c.mv", 0xf003, 0x8002, op_add, mv},
    {"c.ebreak", 0xffff, 0x9002, op_ebreak, none},
    {"c.jalr", 0xf07f, 0x9002, op_jalr, jalr},
    {"c.add", 0xf003, 0x9002, op_add, add},
    {"c.fsdsp", 0xe003, 0xa002, op_fsd, store_sp_d},
    {"c.swsp", 0xe003, 0xc002, op_sw, store_sp_w},
    {"c.sdsp", 0xe003, 0xe002, op_sd, store_sp_d},
};

// Rows by quadrant and funct3, those with the most fixed bits first.
using Index = std::array<std::vector<const Row*>, 32>;
const Index& index_of_rows() {
    static const Index index = [] {
        Index result;
        for (const Row& row : rows) result[(row.match >> 13) * 4 + (row.match & 3)].push_back(&row);
        for (auto& bucket : result)
            std::stable_sort(bucket.begin(), bucket.end(), [](const Row* a, const Row* b) {
                return std::popcount(a->mask) > std::popcount(b->mask);
            });
        return result;
    }();
    return index;
}

}  // namespace

Op expand_compressed(const Extensions& extensions, u16 half, u16 offset, Slot& slot) {
    slot.imm = offset;
    for (const Row* row : index_of_rows()[(half >> 13) * 4 + (half & 3)]) {
        if ((half & row->mask) != row->match || !present(extensions, row->op)) continue;
        row->operands(half, slot);
        return row->op;
    }
    return op_illegal;
}

}  // namespace core
