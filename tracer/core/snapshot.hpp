// A machine as bytes, for checkpoints: frames, address spaces, harts, what numbers its rows.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "address_space.hpp"
#include "hart.hpp"

namespace core {

using Spaces = std::vector<std::shared_ptr<AddressSpace>>;
using Harts = std::vector<std::shared_ptr<Hart>>;

// Decoded text and TLBs are not part of it. What shares a frame still shares it when restored, be it
// copy-on-write or MAP_SHARED.
class Snapshot {
  public:
    // Throws std::invalid_argument if one of them is of another machine.
    static std::string save(const Machine& machine, const Spaces& spaces, const Harts& harts);

    // New spaces and harts, in the order they were saved in. Throws std::invalid_argument, and has
    // changed nothing, if the bytes are not a snapshot or hold more frames than the machine may have.
    static std::pair<Spaces, Harts> restore(const std::shared_ptr<Machine>& machine,
                                            std::span<const u8> bytes);

  private:
    class Writer;
    class Reader;
};

}  // namespace core
