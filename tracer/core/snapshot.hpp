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
using Files = std::vector<std::shared_ptr<Pages>>;

// Decoded text and TLBs are not included. Restored pages share frames as the saved ones did, both
// copy-on-write and those of files.
class Snapshot {
  public:
    // Throws std::invalid_argument if one of them belongs to another machine, or if a space maps
    // pages that are not in `files`.
    static std::string save(const Machine& machine, const Spaces& spaces, const Harts& harts,
                            const Files& files);

    // New ones, in the order of the save; the bytes that files began with are not attached. Throws
    // std::invalid_argument and changes nothing if the bytes are not a snapshot or have more frames
    // than the machine may have.
    static std::tuple<Spaces, Harts, Files> restore(const std::shared_ptr<Machine>& machine,
                                                    std::span<const u8> bytes);

  private:
    class Writer;
    class Reader;
};

}  // namespace core
