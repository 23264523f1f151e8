#include "hart.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace core {

namespace {

using Words = std::array<u64, Hart::words>;

// x, f, pc, ssp, fcsr, mode bits, the reservation, the vector CSRs; followed by v0 to v31.
Words words_of(const Hart& h) {
    Words words;
    auto out = std::copy_n(h.x, 32, words.begin());
    out = std::copy_n(h.f, 32, out);
    const u64 modes = u64{h.elp} | u64{h.sse} << 1 | u64{h.lpe} << 2 | u64{h.v.used} << 3 |
                      u64{h.v.enabled} << 4 | u64{h.pmlen} << 8;
    const Reservation& r = h.reservation;
    for (u64 word : {h.pc, h.ssp, u64{h.fcsr()}, modes, u64{r.valid} | u64{r.size} << 8, r.address,
                     r.value, h.v.vl, h.v.vtype, h.v.vstart, h.v.vcsr()})
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
    const Words words = words_of(*this);
    std::memcpy(out.data(), words.data(), sizeof words);
    std::memcpy(out.data() + sizeof words, v.bytes, sizeof v.bytes);
}

bool Hart::restore(std::span<const u8> in) {
    if (in.size() != state_size) return false;
    Words words;
    std::memcpy(words.data(), in.data(), sizeof words);
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
    v.used = rest[3] & 8;
    v.enabled = rest[3] & 16;
    pmlen = valid_pmlen(u8(rest[3] >> 8)) ? u8(rest[3] >> 8) : 0;
    reservation = {(rest[4] & 1) != 0, static_cast<u8>(rest[4] >> 8), rest[5], rest[6]};
    v.configure(rest[8], rest[7]);
    v.set_vstart(rest[9]);
    v.set_vcsr(rest[10]);
    std::memcpy(v.bytes, in.data() + sizeof words, sizeof v.bytes);
    fault = {};
    return true;
}

// Over x, f, fcsr, ssp, elp, pc, and the vector state once it is used. An odd multiplication and a
// fold mix in each word.
u64 Hart::hash() const {
    u64 hash = 0x9e3779b97f4a7c15;
    const auto mix = [&](u64 word) {
        const u128 product = u128(hash ^ word) * 0xd6e8feb86659fd93;
        hash = u64(product) ^ u64(product >> 64) ^ std::rotl(word, 32);
    };
    for (int i = 1; i < 32; ++i) mix(x[i]);
    for (u64 bits : f) mix(bits);
    for (u64 word : {u64{fcsr()}, ssp, u64{elp}, pc}) mix(word);
    if (!v.used) return hash;
    for (u64 word : {v.vl, v.vtype, v.vstart, v.vcsr()}) mix(word);
    for (unsigned i = 0; i < sizeof v.bytes; i += 8) {
        u64 word;
        std::memcpy(&word, v.bytes + i, sizeof word);
        mix(word);
    }
    return hash;
}

}  // namespace core
