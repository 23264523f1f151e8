// The pages of one mm: permissions, the shadow-stack kind, copy-on-write, and a software TLB.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "machine.hpp"
#include "page_table.hpp"
#include "pages.hpp"
#include "traps.hpp"
#include "types.hpp"

namespace core {

enum class Access { load, store, fetch, shadow };

struct Tlb {
    static constexpr u64 entries = 256;
    static constexpr u64 invalid = ~u64{0};

    struct Data {
        u64 tag = invalid;  // address of the page
        u64 addend = 0;     // host address = guest address + addend
    };
    struct Text {
        u64 tag = invalid;
        CodePage* page = nullptr;
    };

    // Text with native code for that address.
    struct Jump {
        u64 tag = invalid;
        const u8* const* code = nullptr;  // by halfword
        u32 serial = 0;                   // of the CodePage
        u8 unused[12] = {};
    };
    static_assert(sizeof(Jump) == 32);

    static u64 index(u64 addr) { return (addr >> page_shift) % entries; }
    // Aligned accesses within the page match the tag; all others take the slow path.
    template <u64 size>
    static bool hit(const Data& entry, u64 addr) {
        return (addr & (~page_mask | (size - 1))) == entry.tag;
    }
    void flush() { *this = Tlb{}; }
    void forget_page(u64 addr) {
        const u64 i = index(addr);
        load[i] = store[i] = shadow[i] = Data{};
        text[i] = Text{};
        jump[i] = Jump{};
    }

    Data load[entries];
    Data store[entries];
    Data shadow[entries];
    Text text[entries];
    Jump jump[entries];
};

class AddressSpace {
  public:
    explicit AddressSpace(std::shared_ptr<Machine> machine);
    std::shared_ptr<AddressSpace> fork();

    void map(u64 start, u64 length, u8 perm);
    // Map `pages` from their offset on. Without perm_shared, stores go to private copies.
    void map_pages(u64 start, u64 length, u8 perm, std::shared_ptr<Pages> pages, u64 offset);
    void unmap(u64 start, u64 length);
    void protect(u64 start, u64 length, u8 perm);
    void move(u64 old_start, u64 length, u64 new_start);
    void discard(u64 start, u64 length);
    int perm(u64 addr) const;
    u64 resident(u64 start, u64 length) const;
    // Those of them that are not their file's.
    u64 anonymous(u64 start, u64 length) const;
    // Make the pages resident, as stores would (write) or as loads of a file would; false if there
    // is no frame left. What is past the end of a file is left out.
    bool populate(u64 start, u64 length, bool write);
    // For each page of a range: 0 nothing, 1 in its file only, 2 here and the file's, 3 its own.
    std::string look(u64 start, u64 length) const;

    bool read(u64 addr, std::span<u8> out, bool force);
    bool write(u64 addr, std::span<const u8> data, bool force);
    // nullopt at an unreadable byte
    std::optional<std::string> read_cstr(u64 addr, u64 limit);
    bool ss_write(u64 addr, u64 value);
    std::optional<u64> ss_swap(u64 addr, u64 value);

    // The host's address of a guest byte, or null with the exception in `fault` (cause, tval).
    // Fills the TLB entry of the page.
    const u8* loadable(u64 addr, Fault& fault);
    u8* storable(u64 addr, Access kind, Fault& fault);
    CodePage* executable(u64 addr, Fault& fault);

    // Slow path of the loop, for a TLB miss or a misaligned access.
    bool load(u64 addr, unsigned size, u64& value, Fault& fault);
    bool store(u64 addr, unsigned size, u64 value, Fault& fault);

    // Supm's "ignore" transformation for virtual addresses: the upper PMLEN bits become the sign
    // extension of the next lower bit. TLB tags are untransformed addresses, so only misses pay for
    // the transformation.
    u64 untagged(u64 addr) const { return u64(i64(addr << pmlen_) >> pmlen_); }
    // Set PMLEN to that of the hart that runs next.
    void ignore_upper(u8 pmlen) {
        if (pmlen != pmlen_) tlb.flush();
        pmlen_ = pmlen;
    }

    // Only while no hart runs. A fork has none.
    void set_traps(Traps traps);
    const Traps& traps() const { return traps_; }
    // Whether an instruction that uses these bytes traps.
    bool traps_access(u64 addr, u64 size, u8 uses) const {
        return !traps_.watches.empty() && !machine->pass_access && traps_.watched(addr, size, uses);
    }

    // Before a hart runs: other address spaces may have changed shared text or frames.
    void synchronize();

    Tlb tlb;
    const std::shared_ptr<Machine> machine;
    const u64 id;

  private:
    friend class Snapshot;

    struct Range {
        u64 count;
        u64 offset;  // of the range's first page within `pages`
        std::shared_ptr<Pages> pages;
    };
    struct Backing {
        Pages* pages;  // null: anonymous memory
        u64 page;
        bool past_end() const { return pages && !pages->has(page); }
    };

    AddressSpace(const AddressSpace& parent);
    Backing backing(u64 page) const;
    bool is_own(u64 page, const Frame* frame) const;
    bool allowed(u64 page, Entry entry, Access access, bool force) const;
    Cause check_page(u64 page, Entry entry, Access access) const;
    const u8* readable(u64 page, Entry entry) const;
    Frame* executable_frame(u64 page, Fault& fault);
    Frame* writable_frame(u64 page, Fault& fault);
    void read_around(u64 page);
    Frame* enter(u64 page, Entry old, Frame* frame, Fault& fault);
    std::map<u64, Range> cut_ranges(u64 first, u64 count);

    PageTable table_;
    std::map<u64, Range> ranges_;  // that have pages, by first page
    Traps traps_;
    u64 seen_epoch_ = 0;
    u8 pmlen_ = 0;
};

}  // namespace core
