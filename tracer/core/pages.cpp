#include "pages.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace core {

Pages::Pages(std::shared_ptr<Machine> machine, u64 size)
    : machine(std::move(machine)), size_(size), source_size_(size) {
    this->machine->caches.insert(this);
}

Pages::~Pages() {
    machine->caches.erase(this);
    for (auto& [page, frame] : frames_) machine->release(frame);
}

void Pages::attach(std::span<const u8> source, std::shared_ptr<const void> owner) {
    if (source.size() < source_size_) throw std::invalid_argument("these are not its first bytes");
    source_ = source.data();
    owner_ = std::move(owner);
    const u64 rest = source_size_ & page_mask;
    tail_.assign(rest ? page_size : 0, 0);
    std::copy_n(source_ + (source_size_ - rest), rest, tail_.begin());
}

void Pages::resize(u64 size) {
    if (size < size_) {
        std::erase_if(frames_, [&](const auto& item) {
            const bool cut = item.first > (size - 1) >> page_shift || !size;
            if (cut) machine->release(item.second);
            return cut;
        });
        if (Frame* last = frame(size >> page_shift, false)) {
            if (last->code) machine->drop_code(last);
            std::fill(last->bytes + (size & page_mask), last->bytes + page_size, 0);
        }
        if (size < source_size_) {
            source_size_ = size;
            if (source_) attach({source_, size}, std::move(owner_));
        }
        ++machine->tlb_epoch;
    }
    size_ = size;
}

const u8* Pages::bytes(u64 page) const {
    if (const auto it = frames_.find(page); it != frames_.end()) return it->second->bytes;
    const u64 start = page << page_shift;
    if (!source_ || start >= source_size_) return machine->zero_page();
    return source_size_ - start < page_size ? tail_.data() : source_ + start;
}

Frame* Pages::frame(u64 page, bool create) {
    if (const auto it = frames_.find(page); it != frames_.end()) return it->second;
    if (!create) return nullptr;
    Frame* frame = machine->new_frame();
    if (!frame) return nullptr;
    std::memcpy(frame->bytes, bytes(page), page_size);
    frames_[page] = frame;
    ++machine->tlb_epoch;  // loads that found the page without a frame
    return frame;
}

bool Pages::filled(u64 page) const {
    return page << page_shift < source_size_ || frames_.contains(page);
}

void Pages::read(u64 offset, std::span<u8> out) const {
    for (u64 done = 0; done < out.size();) {
        const u64 at = offset + done;
        const u64 step = std::min<u64>(out.size() - done, page_size - (at & page_mask));
        std::memcpy(out.data() + done, bytes(at >> page_shift) + (at & page_mask), step);
        done += step;
    }
}

bool Pages::write(u64 offset, std::span<const u8> data) {
    for (u64 done = 0; done < data.size();) {
        const u64 at = offset + done;
        const u64 step = std::min<u64>(data.size() - done, page_size - (at & page_mask));
        Frame* target = frame(at >> page_shift, true);
        if (!target) return false;
        if (target->code) machine->drop_code(target);
        std::memcpy(target->bytes + (at & page_mask), data.data() + done, step);
        done += step;
    }
    return true;
}

bool Pages::clear(u64 offset, u64 length) {
    const std::vector<u8> zeros(page_size);
    for (u64 done = 0; done < length;) {
        const u64 at = offset + done;
        const u64 step = std::min<u64>(length - done, page_size - (at & page_mask));
        if (filled(at >> page_shift) && !write(at, {zeros.data(), step})) return false;
        done += step;
    }
    return true;
}

void Pages::reclaim() {
    std::erase_if(frames_, [&](const auto& item) {
        const auto& [page, frame] = item;
        const u64 start = page << page_shift;
        const bool whole = source_ && start < source_size_ && source_size_ - start >= page_size;
        if (frame->refs > 1 || !whole || std::memcmp(frame->bytes, source_ + start, page_size))
            return false;
        machine->release(frame);
        ++machine->tlb_epoch;  // loads read it without an entry in their table
        return true;
    });
}

void Pages::stored() {
    if (stored_) return;
    stored_ = machine->stored = true;
}

bool Pages::note_store() {
    const bool first = stored_ && !noted_;
    noted_ = stored_;
    return first;
}

void Pages::clean() {
    if (stored_) ++machine->tlb_epoch;  // so that the next store is seen
    stored_ = noted_ = false;
}

}  // namespace core
