// Native code for decoded blocks, and the way into it and out of it.
//
// The interpreter counts how often it enters a block, and has it translated after some. From then
// on the first slot of the block enters its code, which goes on to other blocks that have code. It
// comes back with the next block or instruction for the interpreter. Native code is exactly as
// precise as the interpreter: whatever it has no code for, the interpreter or a function made of
// the same row of isa/ executes.
#pragma once

#include <memory>
#include <string>

#include "code_memory.hpp"
#include "visit.hpp"

namespace core::native {

class Engine {
  public:
    // With room for so many bytes of code. Null with the obstacle if this host can't have any.
    static std::unique_ptr<Engine> create(std::size_t bytes, std::string& obstacle);

    // Translates a block of code that was decoded for this level. False: it stays interpreted.
    bool translate(const Hart& h, Block& block, u64 pc, unsigned level);
    // Executes native code from a block on, to which the budget is charged.
    void run(Visit& visit, Block& block, u64 pc);

    // No room for more code. All decoded text has to be dropped before `clear`.
    bool full() const { return full_; }
    void clear();

  private:
    friend class Translator;

    // Pieces of code that all blocks share.
    struct Stubs {
        void (*enter)(const u8* code, Visit* visit, u64* registers, Tlb* tlb);
        const u8* leave;      // rax = pc, rcx = the exit, rdx = site
        const u8* jump;       // rax = pc
        const u8* interpret;  // rcx = block, rdx = slot
        const u8* row;        // a call: rax = function, rcx = block, rdx = slot; returns eax
        const u8* failed;     // eax = what a row returned
    };

    explicit Engine(std::size_t bytes) : memory_(bytes) {}
    void write_stubs();
    void make_visible(Tlb& tlb, u64 pc, const CodePage& page) const;

    CodeMemory memory_;
    Stubs stubs_;
    u8* start_ = nullptr;  // of the code of blocks, after the stubs
    u8* next_ = nullptr;
    bool full_ = false;
    u64 serial_ = 0;
};

}  // namespace core::native
