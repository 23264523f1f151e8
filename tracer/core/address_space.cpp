#include "address_space.hpp"

#include <cstring>
#include <stdexcept>
#include <vector>

namespace core {

namespace {

// The exception that an access to a page raises, or cause_none. As in riscv Linux's page tables, W
// implies R, and a shadow stack without PROT_WRITE is an ordinary read-only page. An ordinary store
// or fetch to pte.xwr = 010 (shadow stack) raises an ACCESS fault.
Cause check(Entry entry, Access access) {
    const u8 perm = perm_of(entry);
    const bool mapped = entry & entry_mapped;
    const bool shadow_stack = (perm & perm_ss) && (perm & perm_w);
    const bool writable = perm & perm_w;
    switch (access) {
        case Access::load: return (perm & (perm_r | perm_w)) ? cause_none : cause_load_page;
        case Access::store:
            if (shadow_stack) return cause_store_access;
            return writable ? cause_none : cause_store_page;
        case Access::shadow:
            if (shadow_stack) return cause_none;
            // A page that is executable, not writable, raises an access fault once it is present.
            // Here it raises a page fault always: text can have a frame before it is used.
            return mapped && writable ? cause_store_access : cause_store_page;
        case Access::fetch:
            if (shadow_stack) return cause_fetch_access;
            return (perm & perm_x) ? cause_none : cause_fetch_page;
    }
    return cause_illegal;
}

void check_range(u64 start, u64 length) {
    if ((start | length) & page_mask) throw std::invalid_argument("range is not page-aligned");
    if (length == 0) throw std::invalid_argument("range is empty");
    if (start >= address_limit || length > address_limit - start)
        throw std::invalid_argument("range ends above 2**56");
}

void check_perm(u8 perm) {
    if (perm & ~(perm_r | perm_w | perm_x | perm_ss | perm_shared))
        throw std::invalid_argument("unknown permission");
}

u64 page_of(u64 addr) { return addr >> page_shift; }

bool is_resident(Entry entry) { return frame_of(entry) || (entry & entry_read); }

}  // namespace

AddressSpace::AddressSpace(std::shared_ptr<Machine> machine)
    : machine(std::move(machine)), id(this->machine->next_id++), table_(*this->machine) {}

AddressSpace::AddressSpace(const AddressSpace& parent)
    : machine(parent.machine), id(machine->next_id++), table_(parent.table_),
      ranges_(parent.ranges_) {}

std::shared_ptr<AddressSpace> AddressSpace::fork() {
    tlb.flush();
    return std::shared_ptr<AddressSpace>(new AddressSpace(*this));
}

void AddressSpace::set_traps(Traps traps) {
    traps_ = std::move(traps);
    machine->cut_blocks(traps_.breaks);
    tlb.flush();
}

void AddressSpace::map(u64 start, u64 length, u8 perm) {
    check_range(start, length);
    check_perm(perm);
    if (perm & perm_shared) throw std::invalid_argument("shared memory needs pages");
    table_.fill(page_of(start), page_of(length), make_entry(perm));
    cut_ranges(page_of(start), page_of(length));
    tlb.flush();
}

void AddressSpace::map_pages(u64 start, u64 length, u8 perm, std::shared_ptr<Pages> pages,
                             u64 offset) {
    check_range(start, length);
    check_perm(perm);
    if (offset & page_mask) throw std::invalid_argument("offset is not page-aligned");
    if (pages->machine != machine) throw std::invalid_argument("pages of another machine");
    const u64 first = page_of(start);
    const u64 count = page_of(length);
    table_.fill(first, count, make_entry(perm));
    cut_ranges(first, count);
    ranges_[first] = {count, page_of(offset), std::move(pages)};
    tlb.flush();
}

void AddressSpace::unmap(u64 start, u64 length) {
    check_range(start, length);
    table_.fill(page_of(start), page_of(length), 0);
    cut_ranges(page_of(start), page_of(length));
    tlb.flush();
}

void AddressSpace::protect(u64 start, u64 length, u8 perm) {
    check_range(start, length);
    check_perm(perm);
    const Entry changed = entry_flags & ~Entry{entry_mapped | entry_read | perm_shared};
    table_.change(page_of(start), page_of(length),
                  [&](Entry& entry) { entry = (entry & ~changed) | (perm & changed); });
    tlb.flush();
}

void AddressSpace::move(u64 old_start, u64 length, u64 new_start) {
    check_range(old_start, length);
    check_range(new_start, length);
    const u64 from = page_of(old_start);
    const u64 to = page_of(new_start);
    const u64 count = page_of(length);
    if (from < to + count && to < from + count) throw std::invalid_argument("ranges overlap");

    struct Run {
        u64 page, count;
        Entry entry;
    };
    std::vector<Run> runs;
    table_.visit(from, count, [&](u64 page, u64 pages, Entry entry) {
        if (frame_of(entry)) ++frame_of(entry)->refs;
        runs.push_back({page, pages, entry});
    });
    auto moved = cut_ranges(from, count);
    table_.fill(from, count, 0);
    table_.fill(to, count, 0);
    cut_ranges(to, count);
    for (const Run& run : runs) {
        const u64 page = run.page - from + to;
        if (frame_of(run.entry))
            table_.own(page) = run.entry;
        else
            table_.fill(page, run.count, run.entry);
    }
    for (auto& [first, range] : moved) ranges_[first - from + to] = range;
    tlb.flush();
}

void AddressSpace::discard(u64 start, u64 length) {
    check_range(start, length);
    table_.change(page_of(start), page_of(length), [&](Entry& entry) {
        if (frame_of(entry)) machine->release(frame_of(entry));
        entry &= entry_flags & ~entry_read;
    });
    tlb.flush();
}

int AddressSpace::perm(u64 addr) const {
    if (addr >= address_limit) return -1;
    const Entry entry = table_.get(page_of(addr));
    return entry & entry_mapped ? perm_of(entry) : -1;
}

u64 AddressSpace::resident(u64 start, u64 length) const {
    check_range(start, length);
    u64 pages = 0;
    table_.visit(page_of(start), page_of(length),
                 [&](u64, u64 count, Entry entry) { pages += is_resident(entry) ? count : 0; });
    return pages;
}

bool AddressSpace::is_own(u64 page, const Frame* frame) const {
    const Backing b = backing(page);
    return !b.pages || b.pages->frame(b.page, false) != frame;
}

u64 AddressSpace::anonymous(u64 start, u64 length) const {
    check_range(start, length);
    u64 pages = 0;
    table_.visit(page_of(start), page_of(length), [&](u64 page, u64, Entry entry) {
        pages += frame_of(entry) && is_own(page, frame_of(entry));
    });
    return pages;
}

std::string AddressSpace::look(u64 start, u64 length) const {
    check_range(start, length);
    std::string found;
    for (u64 page = page_of(start); page < page_of(start + length); ++page) {
        const Frame* frame = frame_of(table_.get(page));
        const Backing b = backing(page);
        if (frame)
            found += is_own(page, frame) ? 3 : 2;
        else if (is_resident(table_.get(page)))
            found += 2;
        else
            found += b.pages && b.pages->filled(b.page) ? 1 : 0;
    }
    return found;
}

bool AddressSpace::populate(u64 start, u64 length, bool write) {
    check_range(start, length);
    Fault fault;
    for (u64 page = page_of(start); page < page_of(start + length); ++page) {
        const Backing b = backing(page);
        const Entry entry = table_.get(page);
        if (!(entry & entry_mapped) || b.past_end()) continue;
        if (write && !writable_frame(page, fault)) return false;
        if (!write && b.pages && !frame_of(entry)) table_.own(page) |= entry_read;
    }
    return true;
}

// Remove the ranges with pages, or parts of them, from ranges_, and return them.
std::map<u64, AddressSpace::Range> AddressSpace::cut_ranges(u64 first, u64 count) {
    std::map<u64, Range> taken;
    const u64 end = first + count;
    auto it = ranges_.upper_bound(first);
    if (it != ranges_.begin()) --it;
    while (it != ranges_.end() && it->first < end) {
        const u64 begin = it->first;
        const Range range = it->second;
        const u64 range_end = begin + range.count;
        if (range_end <= first) {
            ++it;
            continue;
        }
        it = ranges_.erase(it);
        const auto part = [&](u64 from, u64 to) {
            return Range{to - from, range.offset + (from - begin), range.pages};
        };
        const u64 low = std::max(begin, first);
        const u64 high = std::min(range_end, end);
        if (begin < low) ranges_[begin] = part(begin, low);
        if (high < range_end) ranges_[high] = part(high, range_end);
        taken[low] = part(low, high);
    }
    return taken;
}

AddressSpace::Backing AddressSpace::backing(u64 page) const {
    auto it = ranges_.upper_bound(page);
    if (it == ranges_.begin()) return {};
    --it;
    const Range& range = it->second;
    const u64 at = page - it->first;
    return at < range.count ? Backing{range.pages.get(), range.offset + at} : Backing{};
}

// check(), and a page fault at a page past the end of its file.
Cause AddressSpace::check_page(u64 page, Entry entry, Access access) const {
    const Cause cause = check(entry, access);
    if (cause != cause_none || frame_of(entry) || !backing(page).past_end()) return cause;
    if (access == Access::load) return cause_load_page;
    return access == Access::fetch ? cause_fetch_page : cause_store_page;
}

// What the kernel's own accesses may reach. force: any page that is mapped.
bool AddressSpace::allowed(u64 page, Entry entry, Access access, bool force) const {
    if (!force) return check_page(page, entry, access) == cause_none;
    return (entry & entry_mapped) && (frame_of(entry) || !backing(page).past_end());
}

// The bytes of a mapped page.
const u8* AddressSpace::readable(u64 page, Entry entry) const {
    if (frame_of(entry)) return frame_of(entry)->bytes;
    const Backing b = backing(page);
    return b.pages ? b.pages->bytes(b.page) : machine->zero_page();
}

// The first read of a file's page. do_fault_around(): those around it become resident as well.
void AddressSpace::read_around(u64 page) {
    constexpr u64 window = 16;
    const Pages* const pages = backing(page).pages;
    const Entry unread = make_entry(perm_of(table_.get(page)));
    const u64 first = page & ~(window - 1);
    for (u64 at = first; at < first + window; ++at) {
        const Backing b = backing(at);
        if (table_.get(at) == unread && b.pages == pages && !b.past_end() &&
            (at == page || pages->filled(b.page)))
            table_.own(at) |= entry_read;
    }
}

Frame* AddressSpace::enter(u64 page, Entry old, Frame* frame, Fault& fault) {
    if (!frame) {
        fault.cause = cause_no_frame;
        return nullptr;
    }
    table_.own(page) = make_entry(perm_of(old), frame);
    tlb.forget_page(page << page_shift);
    synchronize();
    return frame;
}

// The frame of a page that holds what the page reads now, allocated if it has none yet.
Frame* AddressSpace::executable_frame(u64 page, Fault& fault) {
    const Entry old = table_.get(page);
    if (frame_of(old)) return frame_of(old);
    const Backing b = backing(page);
    Frame* frame = b.pages ? b.pages->frame(b.page, true) : machine->new_frame();
    if (frame && b.pages) ++frame->refs;
    return enter(page, old, frame, fault);
}

// The frame of a page that stores go to: shared, or the page's own copy. Its decoded text is
// dropped.
Frame* AddressSpace::writable_frame(u64 page, Fault& fault) {
    const Entry old = table_.get(page);
    const Backing b = backing(page);
    const bool shared = perm_of(old) & perm_shared;
    Frame* frame = frame_of(old);
    if (!frame && b.pages && !shared && !b.pages->frame(b.page, false)) {
        frame = machine->new_frame();
        if (frame) std::memcpy(frame->bytes, b.pages->bytes(b.page), page_size);
        return enter(page, old, frame, fault);
    }
    frame = executable_frame(page, fault);
    if (!frame) return nullptr;
    if (shared && b.pages) b.pages->stored();
    Entry& entry = table_.own(page);
    if (!shared && frame->refs > 1) {
        Frame* copy = machine->new_frame(frame);
        if (!copy) {
            fault.cause = cause_no_frame;
            return nullptr;
        }
        if (frame->code) machine->stale.push_back(frame->code);
        machine->release(frame);
        entry = make_entry(perm_of(entry), copy);
        tlb.forget_page(page << page_shift);
        synchronize();
        return copy;
    }
    if (frame->code) {
        machine->drop_code(frame);
        synchronize();
    }
    return frame;
}

const u8* AddressSpace::loadable(u64 addr, Fault& fault) {
    const u64 at = fault.tval = untagged(addr);
    const Entry entry = at < address_limit ? table_.get(page_of(at)) : 0;
    fault.cause = check_page(page_of(at), entry, Access::load);
    if (fault.cause != cause_none) return nullptr;
    const Backing b = backing(page_of(at));
    if (Frame* frame = frame_of(entry) || !b.pages ? nullptr : b.pages->frame(b.page, false)) {
        ++frame->refs;
        table_.own(page_of(at)) = make_entry(perm_of(entry), frame);
    }
    if (b.pages && !is_resident(entry)) read_around(page_of(at));
    const u8* bytes = readable(page_of(at), table_.get(page_of(at)));
    const u64 page = addr & ~page_mask;
    if (!traps_.watched_page(at))
        tlb.load[Tlb::index(addr)] = {page, reinterpret_cast<u64>(bytes) - page};
    return bytes + (addr & page_mask);
}

u8* AddressSpace::storable(u64 addr, Access kind, Fault& fault) {
    const u64 at = fault.tval = untagged(addr);
    const Entry entry = at < address_limit ? table_.get(page_of(at)) : 0;
    fault.cause = check_page(page_of(at), entry, kind);
    if (fault.cause == cause_store_access && (perm_of(entry) & perm_w)) {
        Fault first = fault;  // a page fault, at which Linux fills in the page
        writable_frame(page_of(at), first);
    }
    if (fault.cause != cause_none) return nullptr;
    Frame* frame = writable_frame(page_of(at), fault);
    if (!frame) return nullptr;
    frame->written = true;
    const u64 page = addr & ~page_mask;
    Tlb::Data* const entries = kind == Access::shadow ? tlb.shadow : tlb.store;
    if (!traps_.watched_page(at))
        entries[Tlb::index(addr)] = {page, reinterpret_cast<u64>(frame->bytes) - page};
    return frame->bytes + (addr & page_mask);
}

CodePage* AddressSpace::executable(u64 addr, Fault& fault) {
    fault.tval = addr;
    const Entry entry = addr < address_limit ? table_.get(page_of(addr)) : 0;
    fault.cause = check_page(page_of(addr), entry, Access::fetch);
    if (fault.cause != cause_none) return nullptr;
    Frame* frame = executable_frame(page_of(addr), fault);
    if (!frame) return nullptr;
    if (!is_resident(entry) && backing(page_of(addr)).pages) read_around(page_of(addr));
    CodePage& page = machine->code_of(frame);
    synchronize();
    tlb.text[Tlb::index(addr)] = {addr & ~page_mask, &page};
    return &page;
}

bool AddressSpace::load(u64 addr, unsigned size, u64& value, Fault& fault) {
    u8 bytes[8] = {};
    const u64 first = std::min<u64>(size, page_size - (addr & page_mask));
    const u8* low = loadable(addr, fault);
    if (!low) return false;
    std::memcpy(bytes, low, first);
    if (first < size) {
        const u8* high = loadable(addr + first, fault);
        if (!high) return false;
        std::memcpy(bytes + first, high, size - first);
    }
    std::memcpy(&value, bytes, 8);
    return true;
}

bool AddressSpace::store(u64 addr, unsigned size, u64 value, Fault& fault) {
    const u64 first = std::min<u64>(size, page_size - (addr & page_mask));
    u8* low = storable(addr, Access::store, fault);
    if (!low) return false;
    u8* high = nullptr;
    if (first < size) {
        high = storable(addr + first, Access::store, fault);
        if (!high) return false;
    }
    u8 bytes[8];
    std::memcpy(bytes, &value, 8);
    std::memcpy(low, bytes, first);
    if (high) std::memcpy(high, bytes + first, size - first);
    return true;
}

bool AddressSpace::read(u64 addr, std::span<u8> out, bool force) {
    for (u64 done = 0; done < out.size();) {
        const u64 at = addr + done;
        const u64 step = std::min<u64>(out.size() - done, page_size - (at & page_mask));
        const Entry entry = at < address_limit ? table_.get(page_of(at)) : 0;
        if (!allowed(page_of(at), entry, Access::load, force)) return false;
        std::memcpy(out.data() + done, readable(page_of(at), entry) + (at & page_mask), step);
        done += step;
    }
    return true;
}

bool AddressSpace::write(u64 addr, std::span<const u8> data, bool force) {
    if (data.empty()) return true;
    if (addr >= address_limit || data.size() > address_limit - addr) return false;
    const u64 last = page_of(addr + data.size() - 1);
    for (u64 page = page_of(addr); page <= last; ++page) {
        if (!allowed(page, table_.get(page), Access::store, force)) return false;
    }
    Fault fault;
    for (u64 page = page_of(addr); page <= last; ++page)
        if (!writable_frame(page, fault)) return false;
    machine->kernel_stored |= traps_.watched(addr, data.size(), use_store);
    for (u64 done = 0; done < data.size();) {
        const u64 at = addr + done;
        const u64 step = std::min<u64>(data.size() - done, page_size - (at & page_mask));
        u8* bytes = frame_of(table_.get(page_of(at)))->bytes;
        std::memcpy(bytes + (at & page_mask), data.data() + done, step);
        done += step;
    }
    return true;
}

std::optional<std::string> AddressSpace::read_cstr(u64 addr, u64 limit) {
    std::string text;
    u8 chunk[page_size];
    while (text.size() < limit) {
        const u64 at = addr + text.size();
        const u64 step = std::min<u64>(limit - text.size(), page_size - (at & page_mask));
        if (!read(at, {chunk, step}, false)) return std::nullopt;
        const void* nul = std::memchr(chunk, 0, step);
        const u64 taken = nul ? static_cast<u64>(static_cast<const u8*>(nul) - chunk) : step;
        text.append(reinterpret_cast<const char*>(chunk), taken);
        if (nul) break;
    }
    return text;
}

bool AddressSpace::ss_write(u64 addr, u64 value) { return ss_swap(addr, value).has_value(); }

std::optional<u64> AddressSpace::ss_swap(u64 addr, u64 value) {
    Fault fault;
    u8* word = addr % 8 ? nullptr : storable(addr, Access::shadow, fault);
    if (!word) return std::nullopt;
    machine->kernel_stored |= traps_.watched(addr, 8, use_store);
    u64 old;
    std::memcpy(&old, word, 8);
    std::memcpy(word, &value, 8);
    return old;
}

void AddressSpace::synchronize() {
    if (seen_epoch_ == machine->tlb_epoch) return;
    seen_epoch_ = machine->tlb_epoch;
    tlb.flush();
}

}  // namespace core
