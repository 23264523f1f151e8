// What an instruction word is, for disassembly: its row's name and format, and its operands.
#pragma once

#include "decode.hpp"

namespace core {

struct Listed {
    const char* name = nullptr;    // as in isa/*.inc, of what a compressed word expands to
    const char* format = nullptr;  // a name of Format
    Slot slot{};                   // pc-relative immediates count from the instruction
};

// By the decoder itself, with all extensions; no name if there is no such instruction.
Listed listed(u32 word);

}  // namespace core
