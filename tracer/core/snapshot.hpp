// A machine as bytes, for checkpoints: frames, address spaces, harts, and the counters of its rows.
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

// Decoded text and TLBs are not included. Restored pages share frames as the saved ones did, both
// copy-on-write and MAP_SHARED.
class Snapshot {
  public:
    // Throws std::invalid_argument if a space or hart belongs to another machine.
    static std::string save(const Machine& machine, const Spaces& spaces, const Harts& harts);

    // New spaces and harts, in the order of the save. Throws std::invalid_argument and changes
    // nothing if the bytes are not a snapshot or have more frames than the machine may have.
    static std::pair<Spaces, Harts> restore(const std::shared_ptr<Machine>& machine,
                                            std::span<const u8> bytes);

  private:
    class Writer;
    class Reader;
};

}  // namespace core
