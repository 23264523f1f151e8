// Decoding for disassembly: the name and format of an instruction's row, and its operands.
#pragma once

#include "decode.hpp"

namespace core {

struct Listed {
    const char* name = nullptr;    // as in isa/*.inc; of a compressed word's expansion
    const char* format = nullptr;  // a name of Format
    Slot slot{};                   // immediates are relative to the instruction
};

// Uses the decoder, with all extensions. No name if there is no such instruction.
Listed listed(u32 word);

}  // namespace core
