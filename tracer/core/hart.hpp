// The user-visible registers of one task.
#pragma once

#include <memory>
#include <span>

#include "machine.hpp"
#include "types.hpp"
#include "vector/state.hpp"

namespace core {

struct Reservation {
    bool valid = false;
    u8 size = 0;
    u64 address = 0;
    u64 value = 0;  // loaded by lr, sign-extended
};

// The tag lengths of pointer masking.
constexpr bool valid_pmlen(u64 length) { return length == 0 || length == 7 || length == 16; }

class Hart {
  public:
    explicit Hart(std::shared_ptr<Machine> machine)
        : machine(std::move(machine)), id(this->machine->next_id++) {}
    std::shared_ptr<Hart> copy() const;

    u64 x[33] = {};  // x[32] receives writes to x0
    u64 f[32] = {};
    u64 pc = 0;
    u64 ssp = 0;
    u32 fflags = 0;
    u32 frm = 0;
    bool elp = false;
    bool sse = false;
    bool lpe = false;
    u8 pmlen = 0;  // senvcfg.PMM: number of ignored upper bits of data addresses (Supm)
    Reservation reservation;
    Fault fault;
    VectorState v;

    u32 fcsr() const { return frm << 5 | fflags; }
    void set_fcsr(u64 value) { fflags = value & 31, frm = (value >> 5) & 7; }

    // The registers as bytes in a fixed layout, and back. restore: false if the size is wrong.
    static constexpr std::size_t words = 32 + 32 + 11;
    static constexpr std::size_t state_size = 8 * words + 32 * VectorState::vlenb;
    void save(std::span<u8, state_size> out) const;
    bool restore(std::span<const u8> in);
    u64 hash() const;

    const std::shared_ptr<Machine> machine;
    const u64 id;
};

}  // namespace core
