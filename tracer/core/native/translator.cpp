#include "translator.hpp"

#include <utility>

#include "../decode.hpp"

namespace core::native {

namespace {

constexpr unsigned log2_of(std::size_t size) { return unsigned(std::countr_zero(size)); }

// A field of the entry that rcx = index * sizeof(entry) selects.
Operand in_tlb(std::size_t entries, std::size_t field) { return {tlb, rcx, i32(entries + field)}; }

u64 page_of(u64 address) { return address & ~page_mask; }

}  // namespace

bool Engine::translate(const Hart& h, Block& block, u64 pc, unsigned level) {
    if ((level & trace_flow) && !(block.flow_id && block.flow_pc == pc)) return false;
    CodePage& page = *block.page;
    if (!page.native) {
        page.native = std::make_unique_for_overwrite<const u8*[]>(halfwords_per_page);
        std::fill_n(page.native.get(), halfwords_per_page, memory_.executable(stubs_.jump));
        page.native_page = page_of(pc);
        page.native_serial = ++serial_;
    }
    if (page.native_page != page_of(pc)) return false;
    if (next_ + block_bytes + block.count * instruction_bytes > memory_.end()) full_ = true;
    if (full_) return false;
    Translator(*this, h, block, pc, level).translate();
    page.native[block.offset / 2] = block.native;
    return true;
}

void Translator::translate() {
    block_.native = engine_.memory_.executable(a.at);
    enter();
    block_.native_body = engine_.memory_.executable(a.at);
    for (k_ = 0; k_ < block_.count; ++k_) {
        s_ = block_.slots()[k_];
        const std::size_t first = ways_.size();
        instruction();
        for (std::size_t i = first; i < ways_.size(); ++i)
            if (ways_[i].exit == Exit::none) ways_[i].back = a.at;
    }
    if (!ends_block(block_.info[block_.count - 1].op)) go(pc_ + block_.length);
    for (std::size_t i = 0; i < ways_.size(); ++i) {
        const Way& way = ways_[i];
        Assembler::bind(way.from, a.at);
        const bool again = i + 1 < ways_.size() && ways_[i + 1].where == way.where;
        if (way.exit == Exit::none && again && ways_[i + 1].exit == Exit::none) continue;
        write(way);
    }
    engine_.next_ = a.at;
}

// Charges the budget, and adds a row to flow.
void Translator::enter() {
    const i32 count = i32(block_.count);
    a.alu_constant(alu_sub, left, count);
    ways_.push_back({Exit::budget, a.jump_if(below), pc_});
    if (!(level_ & trace_flow)) return;
    const auto in_visit = [](std::size_t offset) { return Operand{rdx, i32(offset)}; };
    a.mov(rdx, {rsp, 0});
    a.mov(rax, in_visit(offsetof(Visit, limit)));
    a.alu(alu_sub, rax, left);
    a.alu_constant(alu_add, rax, 1 - count);
    a.shift(shift_shl, rax, seq_shift);
    a.mov(rcx, in_visit(offsetof(Visit, flow_seq)));
    a.put({rcx, 0}, rax);
    a.alu_constant(alu_add, in_visit(offsetof(Visit, flow_seq)), sizeof(u64));
    a.mov(rcx, in_visit(offsetof(Visit, flow_block)));
    a.store({rcx, 0}, i32(block_.flow_id), 4);
    a.alu_constant(alu_add, in_visit(offsetof(Visit, flow_block)), sizeof(u32));
}

void Translator::write(const Way& way) {
    const auto leave = [&](u8* site) {
        a.constant(rax, way.where);
        a.constant(rcx, u64(way.exit));
        if (site) a.constant(rdx, reinterpret_cast<u64>(site));
        a.jump(engine_.stubs_.leave);
    };
    switch (way.exit) {
        case Exit::none:
            k_ = u32(way.where);
            row();
            a.jump(way.back);
            break;
        case Exit::interpret:
            k_ = u32(way.where);
            interpret();
            break;
        case Exit::budget:
            a.alu_constant(alu_add, left, i32(block_.count));
            leave(nullptr);
            break;
        case Exit::far_link: leave(way.back); break;
        default: leave(way.from); break;
    }
}

void Translator::name_slot() {
    a.constant(rcx, reinterpret_cast<u64>(&block_));
    a.lea(rdx, {rcx, i32(sizeof(Block) + k_ * sizeof(Slot))});
}

void Translator::row() {
    name_slot();
    a.constant(rax, reinterpret_cast<u64>(rows[(level_ & trace_cfi) != 0][block_.info[k_].op]));
    a.call(engine_.stubs_.row);
    a.test(rax, rax, narrow);
    a.jump_if(not_equal, engine_.stubs_.failed);
}

void Translator::interpret() {
    name_slot();
    a.jump(engine_.stubs_.interpret);
}

Reg Translator::value(u8 x, Reg scratch) {
    if (is_held(x)) return host_of(x);
    if (x)
        a.mov(scratch, in_memory(x));
    else
        a.constant(scratch, 0);
    return scratch;
}

Reg Translator::result(u8 not_this) const {
    return is_held(s_.rd) && s_.rd != not_this ? host_of(s_.rd) : rax;
}

void Translator::set(Reg from, bool w) {
    if (s_.rd == x0_sink) return;
    const Reg to = is_held(s_.rd) ? host_of(s_.rd) : from;
    if (w)
        a.mov(to, from);
    else
        a.load(to, from, 4, true);
    if (!is_held(s_.rd)) a.put(in_memory(s_.rd), to);
}

void Translator::set_constant(u64 value) {
    if (s_.rd == x0_sink) return;
    if (is_held(s_.rd)) return a.constant(host_of(s_.rd), value);
    if (i64(value) == i32(value)) return a.store(in_memory(s_.rd), i32(value), 8);
    a.constant(rcx, value);
    a.put(in_memory(s_.rd), rcx);
}

void Translator::binary(Alu op, bool w) {
    u8 first = s_.rs1, second = s_.rs2;
    if (op != alu_sub && second == s_.rd) std::swap(first, second);
    if (w && first == s_.rd && !is_held(first))
        return a.alu_to(op, in_memory(first), value(second, rax));
    const Reg to = result(second);
    a.mov(to, place(first), w);
    a.alu(op, to, place(second), w);
    set(to, w);
}

void Translator::binary_immediate(Alu op, bool w) {
    if (s_.rs1 == 0 && op != alu_and) return set_constant(u64(i64(s_.imm)));
    if (w && s_.rd == s_.rs1 && !is_held(s_.rd))
        return a.alu_constant(op, in_memory(s_.rd), s_.imm);
    const Reg to = result();
    if (op == alu_add && s_.imm == 0) {
        a.load(to, place(s_.rs1), w ? 8 : 4, true);
        return set(to);
    }
    if (op == alu_add && is_held(s_.rs1) && s_.rs1 != s_.rd) {
        a.lea(to, {host_of(s_.rs1), s_.imm}, w);
    } else {
        a.mov(to, place(s_.rs1), w);
        a.alu_constant(op, to, s_.imm, w);
    }
    set(to, w);
}

void Translator::shift(Shift op, bool w) {
    const Reg to = result();
    a.shift_by(op, to, place(s_.rs1), value(s_.rs2, rcx), w);
    set(to, w);
}

void Translator::shift_immediate(Shift op, bool w) {
    const Reg to = result();
    a.mov(to, place(s_.rs1), w);
    a.shift(op, to, unsigned(s_.imm), w);
    set(to, w);
}

void Translator::rotate(Shift op, bool w) {
    a.mov(rcx, place(s_.rs2));
    a.mov(rax, place(s_.rs1), w);
    a.rotate_by_cl(op, rax, w);
    set(rax, w);
}

void Translator::compare(u8 rs1, u8 rs2) {
    if (rs2 != 0) return a.alu(alu_cmp, value(rs1, rax), place(rs2));
    a.alu_constant(alu_cmp, place(rs1), 0);
}

void Translator::set_if(Condition condition) {
    const Reg to = result();
    a.set(condition, to);
    set(to);
}

void Translator::extreme(Condition keeps_first) {
    a.mov(rax, place(s_.rs1));
    a.mov(rcx, place(s_.rs2));
    a.alu(alu_cmp, rcx, rax);
    a.move_if(keeps_first, rcx, rax);
    set(rcx);
}

void Translator::multiply(bool w) {
    const Reg to = result(s_.rs2);
    a.mov(to, place(s_.rs1), w);
    a.multiply(to, place(s_.rs2), w);
    set(to, w);
}

void Translator::multiply_high(Unary op) {
    a.mov(rax, place(s_.rs1));
    a.unary(op, place(s_.rs2));
    set(rdx);
}

// Of divisors, 0 and -1 have results of their own.
void Translator::divide(bool is_signed, Reg answer, bool w) {
    a.mov(rcx, place(s_.rs2), w);
    if (is_signed) {
        a.lea(rdx, {rcx, 1}, w);
        a.alu_constant(alu_cmp, rdx, 1, w);
        rare(a.jump_if(not_above));
    } else {
        a.test(rcx, rcx, w);
        rare(a.jump_if(equal));
    }
    a.mov(rax, place(s_.rs1), w);
    if (is_signed)
        a.extend_rax(w);
    else
        a.constant(rdx, 0);
    a.unary(is_signed ? unary_idiv : unary_div, rcx, w);
    set(answer, w);
}

void Translator::shift_add(u8 count, bool unsigned_word) {
    Reg first = rax;
    if (unsigned_word)
        a.mov(rax, place(s_.rs1), narrow);
    else
        first = value(s_.rs1, rax);
    const Reg to = result();
    a.lea(to, {value(s_.rs2, rcx), first, 0, count});
    set(to);
}

void Translator::count(u8 opcode, bool w) {
    const Reg to = result();
    a.count(opcode, to, place(s_.rs1), w);
    set(to);
}

void Translator::extend(u8 size, bool sign) {
    const Reg to = result();
    a.load(to, place(s_.rs1), size, sign);
    set(to);
}

void Translator::with_complement(Alu op) {
    a.mov(rax, place(s_.rs2));
    a.unary(unary_not, rax);
    a.alu(op, rax, place(s_.rs1));
    set(rax);
}

void Translator::bit(BitTest op, bool immediate) {
    a.mov(rax, place(s_.rs1));
    if (immediate)
        a.bit(op, rax, unsigned(s_.imm));
    else
        a.bit_by(op, rax, value(s_.rs2, rcx));
    set(rax);
}

void Translator::extract_bit(bool immediate) {
    if (immediate) {
        a.mov(rax, place(s_.rs1));
        a.shift(shift_shr, rax, unsigned(s_.imm));
    } else {
        a.shift_by(shift_shr, rax, place(s_.rs1), value(s_.rs2, rcx));
    }
    a.alu_constant(alu_and, rax, 1, narrow);
    set(rax);
}

void Translator::keep_if(Condition condition) {
    a.constant(rax, 0);
    a.alu_constant(alu_cmp, place(s_.rs2), 0);
    a.move_if(condition, rax, place(s_.rs1));
    set(rax);
}

Operand Translator::access(std::size_t entries, u8 size) {
    const Reg base = value(s_.rs1, rax);
    a.lea(rcx, {base, s_.imm}, narrow);
    find_entry(entries, sizeof(Tlb::Data), {base, s_.imm + size - 1});
    rare(a.jump_if(not_equal));
    a.mov(rdx, in_tlb(entries, offsetof(Tlb::Data, addend)));
    return {rdx, base, s_.imm};
}

// Compares the page of `last` with the tag of the entry for the address in rcx; rcx becomes the
// offset of that entry. An access that goes on in the next page has another page at its end.
void Translator::find_entry(std::size_t entries, std::size_t size, const Operand& last) {
    a.shift(shift_shr, rcx, page_shift - log2_of(size), narrow);
    a.alu_constant(alu_and, rcx, i32((Tlb::entries - 1) * size), narrow);
    a.lea(rdx, last);
    a.alu_constant(alu_and, rdx, ~i32(page_mask));
    a.alu(alu_cmp, rdx, in_tlb(entries, 0));
}

void Translator::load(u8 size, bool sign) {
    const Operand from = access(offsetof(Tlb, load), size);
    if (s_.rd == x0_sink) return;
    const Reg to = result();
    a.load(to, from, size, sign);
    set(to);
}

void Translator::load_f(u8 size) {
    const Operand from = access(offsetof(Tlb, load), size);
    a.load(rax, from, size, false);
    a.put(place_f(s_.rd), rax, size == 8);
    if (size == 4) a.store(upper_half(s_.rd), -1, 4);
}

void Translator::store(u8 size) {
    const Operand to = access(offsetof(Tlb, store), size);
    if (s_.rs2)
        a.store(to, value(s_.rs2, rcx), size);
    else
        a.store(to, 0, size);
}

void Translator::store_f(u8 size) {
    const Operand to = access(offsetof(Tlb, store), size);
    a.mov(rcx, place_f(s_.rs2), size == 8);
    a.store(to, rcx, size);
}

void Translator::push_shadow() {
    a.compare_byte(in_hart(offsetof(Hart, sse)), 0);
    u8* const off = a.jump_if(equal);
    a.mov(rax, in_hart(offsetof(Hart, ssp)));
    a.alu_constant(alu_sub, rax, 8);
    a.mov(rcx, rax, narrow);
    find_entry(offsetof(Tlb, shadow), sizeof(Tlb::Data), {rax, 0});
    rare(a.jump_if(not_equal));
    a.mov(rdx, in_tlb(offsetof(Tlb, shadow), offsetof(Tlb::Data, addend)));
    a.put({rdx, rax, 0}, value(s_.rs2, rcx));
    a.put(in_hart(offsetof(Hart, ssp)), rax);
    Assembler::bind(off, a.at);
}

void Translator::pop_shadow() {
    a.compare_byte(in_hart(offsetof(Hart, sse)), 0);
    u8* const off = a.jump_if(equal);
    a.mov(rax, in_hart(offsetof(Hart, ssp)));
    a.mov(rcx, rax, narrow);
    find_entry(offsetof(Tlb, shadow), sizeof(Tlb::Data), {rax, 0});
    rare(a.jump_if(not_equal));
    a.mov(rdx, in_tlb(offsetof(Tlb, shadow), offsetof(Tlb::Data, addend)));
    a.mov(rcx, {rdx, rax, 0});
    a.alu(alu_cmp, rcx, place(s_.rs1));
    rare(a.jump_if(not_equal));
    a.alu_constant(alu_add, in_hart(offsetof(Hart, ssp)), 8);
    Assembler::bind(off, a.at);
}

void Translator::branch(Condition condition) {
    const u64 taken = pc_ + u64(i64(s_.imm)), next = pc_ + block_.length;
    compare(s_.rs1, s_.rs2);
    if (page_of(taken) == page_of(pc_)) {
        link(a.jump_if(condition), taken);
    } else {
        u8* const over = a.jump_if(Condition(condition ^ 1));
        go(taken);
        Assembler::bind(over, a.at);
    }
    go(next);
}

// Within the page, whose blocks have code as long as this one.
void Translator::link(u8* site, u64 target) {
    const Block* const known =
        target == pc_ ? &block_ : block_.page->entry[(target & page_mask) / 2];
    if (known && known->native)
        Assembler::bind(site, engine_.memory_.writable(known->native));
    else
        ways_.push_back({Exit::link, site, target});
}

void Translator::go(u64 target) {
    if (page_of(target) == page_of(pc_)) return link(a.jump(), target);
    // If the page there is still the one that the jump was linked to: its serial number follows,
    // once it is linked.
    const u64 entry = offsetof(Tlb, jump) + Tlb::index(target) * sizeof(Tlb::Jump);
    a.compare_dword({tlb, i32(entry + offsetof(Tlb::Jump, serial))}, never);
    u8* const site = a.jump_if(equal);
    ways_.push_back({Exit::far_link, a.jump(), target, site});
}

void Translator::jump_register() {
    const bool return_or_guarded = s_.rs1 == 1 || s_.rs1 == 5 || s_.rs1 == 7;
    if (!return_or_guarded && machine_.extensions.has(Extension::Zicfilp)) {
        a.compare_byte(in_hart(offsetof(Hart, lpe)), 0);
        ways_.push_back({Exit::interpret, a.jump_if(not_equal), k_});
    }
    a.lea(rax, {value(s_.rs1, rax), s_.imm});
    a.alu_constant(alu_and, rax, -2);
    set_constant(pc_ + block_.length);
    a.mov(rcx, rax, narrow);
    find_entry(offsetof(Tlb, jump), sizeof(Tlb::Jump), {rax, 0});
    a.jump_if(not_equal, engine_.stubs_.jump);
    a.mov(rdx, in_tlb(offsetof(Tlb, jump), offsetof(Tlb::Jump, code)));
    a.mov(rcx, rax, narrow);
    a.alu_constant(alu_and, rcx, i32(page_mask - 1), narrow);
    a.jump({rdx, rcx, 0, 2});
}

// The code of an instruction. What has none here calls the function of its row.
void Translator::instruction() {
    const u16 op = block_.info[k_].op;
    switch (op) {
        case op_lui: return set_constant(u64(i64(s_.imm)));
        case op_auipc: return set_constant(pc_ + u64(i64(s_.imm)));
        case op_jal: set_constant(pc_ + block_.length); return go(pc_ + u64(i64(s_.imm)));
        case op_jalr: return jump_register();
        case op_beq: return branch(equal);
        case op_bne: return branch(not_equal);
        case op_blt: return branch(less);
        case op_bge: return branch(not_less);
        case op_bltu: return branch(below);
        case op_bgeu: return branch(not_below);

        case op_lb: return load(1, true);
        case op_lh: return load(2, true);
        case op_lw: return load(4, true);
        case op_ld: return load(8, true);
        case op_lbu: return load(1, false);
        case op_lhu: return load(2, false);
        case op_lwu: return load(4, false);
        case op_flw: return load_f(4);
        case op_fld: return load_f(8);
        case op_sb: return store(1);
        case op_sh: return store(2);
        case op_sw: return store(4);
        case op_sd: return store(8);
        case op_fsw: return store_f(4);
        case op_fsd: return store_f(8);

        case op_addi: return binary_immediate(alu_add);
        case op_xori: return binary_immediate(alu_xor);
        case op_ori: return binary_immediate(alu_or);
        case op_andi: return binary_immediate(alu_and);
        case op_slti: a.alu_constant(alu_cmp, place(s_.rs1), s_.imm); return set_if(less);
        case op_sltiu: a.alu_constant(alu_cmp, place(s_.rs1), s_.imm); return set_if(below);
        case op_slli: return shift_immediate(shift_shl);
        case op_srli: return shift_immediate(shift_shr);
        case op_srai: return shift_immediate(shift_sar);
        case op_add: return binary(alu_add);
        case op_sub: return binary(alu_sub);
        case op_xor: return binary(alu_xor);
        case op_or: return binary(alu_or);
        case op_and: return binary(alu_and);
        case op_sll: return shift(shift_shl);
        case op_srl: return shift(shift_shr);
        case op_sra: return shift(shift_sar);
        case op_slt: compare(s_.rs1, s_.rs2); return set_if(less);
        case op_sltu: compare(s_.rs1, s_.rs2); return set_if(below);
        case op_addiw: return binary_immediate(alu_add, narrow);
        case op_slliw: return shift_immediate(shift_shl, narrow);
        case op_srliw: return shift_immediate(shift_shr, narrow);
        case op_sraiw: return shift_immediate(shift_sar, narrow);
        case op_addw: return binary(alu_add, narrow);
        case op_subw: return binary(alu_sub, narrow);
        case op_sllw: return shift(shift_shl, narrow);
        case op_srlw: return shift(shift_shr, narrow);
        case op_sraw: return shift(shift_sar, narrow);
        case op_fence:
        case op_fence_i:
        case op_wrs_nto:
        case op_wrs_sto: return;

        case op_mul: return multiply();
        case op_mulw: return multiply(narrow);
        case op_mulh: return multiply_high(unary_imul);
        case op_mulhu: return multiply_high(unary_mul);
        case op_div: return divide(true, rax);
        case op_divu: return divide(false, rax);
        case op_rem: return divide(true, rdx);
        case op_remu: return divide(false, rdx);
        case op_divw: return divide(true, rax, narrow);
        case op_divuw: return divide(false, rax, narrow);
        case op_remw: return divide(true, rdx, narrow);
        case op_remuw: return divide(false, rdx, narrow);

        case op_add_uw: return shift_add(0, true);
        case op_sh1add: return shift_add(1, false);
        case op_sh2add: return shift_add(2, false);
        case op_sh3add: return shift_add(3, false);
        case op_sh1add_uw: return shift_add(1, true);
        case op_sh2add_uw: return shift_add(2, true);
        case op_sh3add_uw: return shift_add(3, true);
        case op_andn: return with_complement(alu_and);
        case op_orn: return with_complement(alu_or);
        case op_xnor: return with_complement(alu_xor);
        case op_clz: return count(0xbd);
        case op_ctz: return count(0xbc);
        case op_cpop: return count(0xb8);
        case op_clzw: return count(0xbd, narrow);
        case op_ctzw: return count(0xbc, narrow);
        case op_cpopw: return count(0xb8, narrow);
        case op_max: return extreme(less);
        case op_maxu: return extreme(below);
        case op_min: return extreme(greater);
        case op_minu: return extreme(above);
        case op_sext_b: return extend(1, true);
        case op_sext_h: return extend(2, true);
        case op_zext_h: return extend(2, false);
        case op_rol: return rotate(shift_rol);
        case op_ror: return rotate(shift_ror);
        case op_rori: return shift_immediate(shift_ror);
        case op_rolw: return rotate(shift_rol, narrow);
        case op_rorw: return rotate(shift_ror, narrow);
        case op_roriw: return shift_immediate(shift_ror, narrow);
        case op_rev8:
            a.mov(rax, place(s_.rs1));
            a.swap_bytes(rax);
            return set(rax);
        case op_bclr: return bit(bit_reset, false);
        case op_bclri: return bit(bit_reset, true);
        case op_bset: return bit(bit_set, false);
        case op_bseti: return bit(bit_set, true);
        case op_binv: return bit(bit_complement, false);
        case op_binvi: return bit(bit_complement, true);
        case op_bext: return extract_bit(false);
        case op_bexti: return extract_bit(true);
        case op_czero_eqz: return keep_if(not_equal);
        case op_czero_nez: return keep_if(equal);

        case op_fadd_s: return arithmetic(0x58, true);
        case op_fmul_s: return arithmetic(0x59, true);
        case op_fsub_s: return arithmetic(0x5c, true);
        case op_fdiv_s: return arithmetic(0x5e, true);
        case op_fsqrt_s: return square_root(true);
        case op_fmadd_s: return multiply_add(0xa9, true);
        case op_fmsub_s: return multiply_add(0xab, true);
        case op_fnmsub_s: return multiply_add(0xad, true);
        case op_fnmadd_s: return multiply_add(0xaf, true);
        case op_feq_s: return compare_f(s_.rs1, s_.rs2, equal, true);
        case op_flt_s: return compare_f(s_.rs2, s_.rs1, above, true);
        case op_fle_s: return compare_f(s_.rs2, s_.rs1, not_below, true);
        case op_fsgnj_s:
        case op_fsgnjn_s:
        case op_fsgnjx_s: return sign(op_fsgnj_s, op_fsgnjn_s, true);
        case op_fcvt_w_s: return to_integer(narrow, true);
        case op_fcvt_l_s: return to_integer(wide, true);
        case op_fcvt_s_w: return from_integer(narrow, true);
        case op_fcvt_s_l: return from_integer(wide, true);
        case op_fmv_x_w: a.load(rax, place_f(s_.rs1), 4, true); return set(rax);
        case op_fmv_w_x: a.mov(rax, place(s_.rs1)); return set_f(true);
        case op_fadd_d: return arithmetic(0x58, false);
        case op_fmul_d: return arithmetic(0x59, false);
        case op_fsub_d: return arithmetic(0x5c, false);
        case op_fdiv_d: return arithmetic(0x5e, false);
        case op_fsqrt_d: return square_root(false);
        case op_fmadd_d: return multiply_add(0xa9, false);
        case op_fmsub_d: return multiply_add(0xab, false);
        case op_fnmsub_d: return multiply_add(0xad, false);
        case op_fnmadd_d: return multiply_add(0xaf, false);
        case op_feq_d: return compare_f(s_.rs1, s_.rs2, equal, false);
        case op_flt_d: return compare_f(s_.rs2, s_.rs1, above, false);
        case op_fle_d: return compare_f(s_.rs2, s_.rs1, not_below, false);
        case op_fsgnj_d:
        case op_fsgnjn_d:
        case op_fsgnjx_d: return sign(op_fsgnj_d, op_fsgnjn_d, false);
        case op_fcvt_w_d: return to_integer(narrow, false);
        case op_fcvt_l_d: return to_integer(wide, false);
        case op_fcvt_d_w: return from_integer(narrow, false);
        case op_fcvt_d_l: return from_integer(wide, false);
        case op_fmv_x_d: a.mov(rax, place_f(s_.rs1)); return set(rax);
        case op_fmv_d_x: a.mov(rax, place(s_.rs1)); return set_f(false);

        case op_sspush: return level_ & trace_cfi ? row() : push_shadow();
        case op_sspopchk: return level_ & trace_cfi ? row() : pop_shadow();
        case op_lpad:
            a.compare_byte(in_hart(offsetof(Hart, lpe)), 0);
            return rare(a.jump_if(not_equal));
        case op_ecall:
        case op_ebreak:
        case op_illegal: return interpret();
        default: return row();
    }
}

}  // namespace core::native
