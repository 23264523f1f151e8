#include "engine.hpp"

#include <cpuid.h>

#include <bit>
#include <cstring>

#include "../interpreter.hpp"
#include "registers.hpp"

namespace core::native {

namespace {

// Not all compilers know the name "lzcnt" (CPUID.80000001H:ECX.ABM, bit 5).
bool has_lzcnt() {
    unsigned a, b, c, d;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && c >> 5 & 1;
}

const char* missing_instructions() {
    for (const auto& [name, present] : {std::pair{"bmi2", !!__builtin_cpu_supports("bmi2")},
                                        {"lzcnt", has_lzcnt()},
                                        {"popcnt", !!__builtin_cpu_supports("popcnt")},
                                        {"fma", !!__builtin_cpu_supports("fma")}})
        if (!present) return name;
    return nullptr;
}

}  // namespace

std::unique_ptr<Engine> Engine::create(std::size_t bytes, std::string& obstacle) {
    if (const char* missing = missing_instructions()) {
        obstacle = std::string("the processor has no ") + missing;
        return nullptr;
    }
    std::unique_ptr<Engine> engine(new Engine(bytes));
    obstacle = engine->memory_.map();
    if (!obstacle.empty()) return nullptr;
    engine->write_stubs();
    return engine;
}

void Engine::clear() {
    next_ = start_;
    full_ = false;
    serial_ = 0;
}

void Engine::make_visible(Tlb& tlb, u64 pc, const CodePage& page) const {
    tlb.jump[Tlb::index(pc)] = {pc & ~page_mask, page.native.get(), page.native_serial};
}

void Engine::run(Visit& visit, Block& block, u64 pc) {
    AddressSpace& as = *visit.space;
    make_visible(as.tlb, pc, *block.page);
    const u8* code = block.native_body;
    while (true) {
        stubs_.enter(code, &visit, visit.hart->x + 16, &as.tlb);
        if (visit.exit < Exit::jump || visit.exit > Exit::far_link) return;
        Block* const next = known_block(as.tlb, visit.pc);
        if (!next || !next->native) return;
        const CodePage& page = *next->page;
        if (page.native_page != (visit.pc & ~page_mask)) return;
        make_visible(as.tlb, visit.pc, page);
        if (visit.exit != Exit::jump) Assembler::bind(visit.site, memory_.writable(next->native));
        if (visit.exit == Exit::far_link)
            std::memcpy(visit.site - 6, &page.native_serial, sizeof page.native_serial);
        code = next->native;
    }
}

void Engine::write_stubs() {
    Assembler a{memory_.begin()};
    const auto here = [&] { return memory_.executable(a.at); };
    const auto in_visit = [](std::size_t offset) { return Operand{rax, i32(offset)}; };
    constexpr Reg saved[] = {rbx, rbp, r12, r13, r14, r15};

    stubs_.enter = std::bit_cast<decltype(stubs_.enter)>(here());
    for (Reg reg : saved) a.push(reg);
    a.push(rsi);
    a.mov(rax, rdi);
    a.mov(left, {rsi, offsetof(Visit, left)});
    a.mov(registers, rdx);
    a.mov(tlb, rcx);
    for (const auto& [guest, host] : held) a.mov(host, in_memory(guest));
    a.jump(rax);

    const u8* const failed = a.at;
    stubs_.failed = failed;
    a.mov(rcx, rax, narrow);
    const u8* const leave = a.at;
    stubs_.leave = leave;
    for (const auto& [guest, host] : held) a.put(in_memory(guest), host);
    a.mov(rbx, {rsp, 0});
    a.put({rbx, offsetof(Visit, left)}, left);
    a.put({rbx, offsetof(Visit, exit)}, rcx);
    a.put({rbx, offsetof(Visit, pc)}, rax);
    a.put({rbx, offsetof(Visit, site)}, rdx);
    a.pop(rax);
    for (auto reg = std::rbegin(saved); reg != std::rend(saved); ++reg) a.pop(*reg);
    a.ret();

    stubs_.interpret = a.at;
    a.mov(rax, {rsp, 0});
    a.put(in_visit(offsetof(Visit, block)), rcx);
    a.put(in_visit(offsetof(Visit, slot)), rdx);
    a.constant(rcx, u64(Exit::interpret));
    a.jump(leave);

    stubs_.jump = a.at;
    a.constant(rcx, u64(Exit::jump));
    a.jump(leave);

    stubs_.row = a.at;
    for (const auto& [guest, host] : held) a.put(in_memory(guest), host);
    a.mov(rdi, {rsp, 8});
    a.put({rdi, offsetof(Visit, block)}, rcx);
    a.put({rdi, offsetof(Visit, slot)}, rdx);
    a.mov(rsi, rcx);
    a.mov(rcx, left);
    a.push(rax);  // aligns the stack
    a.call(rax);
    a.pop(rcx);
    for (const auto& [guest, host] : held) a.mov(host, in_memory(guest));
    a.ret();

    start_ = next_ = a.at;
}

}  // namespace core::native
