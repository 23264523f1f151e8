// The extensions with instructions in isa/, and the set of them that the harts of a machine have.
#pragma once

#include <iterator>

#include "types.hpp"
#include "vector/rows.hpp"

namespace core {

enum class Extension : u8 {
#define EXTENSION(name) name,
#include "isa/all.inc"
#define EXTENSION(name) name,
#include "isa/vector.inc"
};

inline constexpr const char* extension_names[] = {
#define EXTENSION(name) #name,
#include "isa/all.inc"
#define EXTENSION(name) #name,
#include "isa/vector.inc"
};

// A set of extensions; initially all of them.
class Extensions {
  public:
    bool has(Extension extension) const { return !(absent_ & bit(extension)); }
    void remove(Extension extension) { absent_ |= bit(extension); }

  private:
    static u64 bit(Extension extension) { return u64{1} << static_cast<unsigned>(extension); }

    static_assert(std::size(extension_names) <= 64);
    u64 absent_ = 0;
};

}  // namespace core
