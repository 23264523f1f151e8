// The contents of a file, or of memory that several mappings share.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "machine.hpp"
#include "types.hpp"

namespace core {

// Only pages that were stored to or executed have a frame. The others are read where they are: in
// the bytes that the file began with, and zeros after them.
class Pages {
  public:
    // `size` bytes, which attach() gives.
    Pages(std::shared_ptr<Machine> machine, u64 size);
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    ~Pages();

    // The bytes that it began with, as many as `source_size` says. `owner` keeps them alive.
    void attach(std::span<const u8> source, std::shared_ptr<const void> owner);
    u64 source_size() const { return source_size_; }

    u64 size() const { return size_; }
    // What is cut off reads as zeros if the file grows again.
    void resize(u64 size);

    // The page's bytes, for reading; they move if the page gets a frame.
    const u8* bytes(u64 page) const;
    // Its frame. `create`: give it one; null if there is none left.
    Frame* frame(u64 page, bool create);
    // Whether the page has at least one byte of the file.
    bool has(u64 page) const { return page < (size_ + page_mask) >> page_shift; }
    // Whether the page was ever filled: it is not part of a hole.
    bool filled(u64 page) const;

    // Both within the size. write: false if there is no frame left.
    void read(u64 offset, std::span<u8> out) const;
    bool write(u64 offset, std::span<const u8> data);
    // Zeros, which take no frame where the file has a hole.
    bool clear(u64 offset, u64 length);

    // Drop the frames that no mapping uses and that say what the source says.
    void reclaim();

    // Stores through shared mappings: `note_store` is true once after the first one since `clean`.
    void stored();
    bool note_store();
    void clean();

    const std::shared_ptr<Machine> machine;

  private:
    friend class Snapshot;

    std::unordered_map<u64, Frame*> frames_;
    u64 size_;
    u64 source_size_;
    const u8* source_ = nullptr;  // null: not attached yet
    std::shared_ptr<const void> owner_;
    std::vector<u8> tail_;  // the last page of the source, if it is not a whole one
    bool stored_ = false;
    bool noted_ = false;
};

}  // namespace core
