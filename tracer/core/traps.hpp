// Where a debugger wants the guest to stop: before the instructions at some addresses, and before
// accesses to some bytes. Nothing of it is in the guest's memory, and nothing shows in a run.
#pragma once

#include <algorithm>
#include <vector>

#include "types.hpp"

namespace core {

struct Traps {
    struct Watch {
        u64 first, last;  // bytes
        u8 uses;          // of Use
    };

    std::vector<u64> breaks;
    std::vector<Watch> watches;

    bool breaks_at(u64 pc) const { return std::ranges::find(breaks, pc) != breaks.end(); }
    bool watched(u64 address, u64 size, u8 uses) const {
        return std::ranges::any_of(watches, [=](const Watch& w) {
            return (w.uses & uses) && address <= w.last && w.first <= address + size - 1;
        });
    }
    // Accesses to such a page take the slow path: it has no entry in the TLB.
    bool watched_page(u64 address) const {
        return watched(address & ~page_mask, page_size, use_load | use_store);
    }
};

}  // namespace core
