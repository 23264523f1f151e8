#include "hart.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace core {

namespace {

using Words = std::array<u64, Hart::state_size / 8>;

// x, f, pc, ssp, fcsr, mode bits, then the reservation.
Words words_of(const Hart& h) {
    Words words;
    auto out = std::copy_n(h.x, 32, words.begin());
    out = std::copy_n(h.f, 32, out);
    const u64 modes = u64{h.elp} | u64{h.sse} << 1 | u64{h.lpe} << 2 | u64{h.pmlen} << 8;
    const Reservation& r = h.reservation;
    for (u64 word : {h.pc, h.ssp, u64{h.fcsr()}, modes, u64{r.valid} | u64{r.size} << 8, r.address,
                     r.value})
        *out++ = word;
    return words;
}

}  // namespace

std::shared_ptr<Hart> Hart::copy() const {
    auto hart = std::make_shared<Hart>(machine);
    u8 state[state_size];
    save(state);
    hart->restore(state);
    return hart;
}

void Hart::save(std::span<u8, state_size> out) const {
    std::memcpy(out.data(), words_of(*this).data(), state_size);
}

bool Hart::restore(std::span<const u8> in) {
    if (in.size() != state_size) return false;
    Words words;
    std::memcpy(words.data(), in.data(), state_size);
    std::copy_n(words.begin(), 32, x);
    x[0] = 0;
    std::copy_n(words.begin() + 32, 32, f);
    const u64* rest = words.data() + 64;
    pc = rest[0] & ~u64{1};
    ssp = rest[1] & ~u64{7};
    set_fcsr(rest[2]);
    elp = rest[3] & 1;
    sse = rest[3] & 2;
    lpe = rest[3] & 4;
    pmlen = valid_pmlen(u8(rest[3] >> 8)) ? u8(rest[3] >> 8) : 0;
    reservation = {(rest[4] & 1) != 0, static_cast<u8>(rest[4] >> 8), rest[5], rest[6]};
    fault = {};
    return true;
}

// x, f, fcsr, ssp, elp, pc: each word mixed in by an odd multiplication and a fold.
u64 Hart::hash() const {
    u64 hash = 0x9e3779b97f4a7c15;
    const auto mix = [&](u64 word) {
        const u128 product = u128(hash ^ word) * 0xd6e8feb86659fd93;
        hash = u64(product) ^ u64(product >> 64) ^ std::rotl(word, 32);
    };
    for (int i = 1; i < 32; ++i) mix(x[i]);
    for (u64 bits : f) mix(bits);
    for (u64 word : {u64{fcsr()}, ssp, u64{elp}, pc}) mix(word);
    return hash;
}

}  // namespace core
