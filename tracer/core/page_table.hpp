// Page tables: a radix tree of reference-counted nodes that are copied on write, so that a fork
// shares the whole tree.
//
// An entry is 0 (unmapped), or permissions | mapped, with a pointer in the high bits: in a leaf to
// a frame, at higher levels to a node. An entry without a pointer is demand-zero memory with those
// permissions: a page in a leaf, a whole subtree above, so that mapping 4 GiB writes few entries.
#pragma once

#include <algorithm>

#include "types.hpp"

namespace core {

struct CodePage;

struct alignas(128) Frame {
    u32 refs = 1;
    bool written = false;  // some TLB may have a store entry for it
    u64 lineage = 0;       // the same for all copy-on-write copies of one frame
    CodePage* code = nullptr;
    alignas(64) u8 bytes[page_size];
};

using Entry = u64;
constexpr Entry entry_mapped = 32;
constexpr Entry entry_read = 64;  // a page that is read in its file: no frame, but resident
constexpr Entry entry_flags = 127;

inline Frame* frame_of(Entry entry) { return reinterpret_cast<Frame*>(entry & ~entry_flags); }
inline u8 perm_of(Entry entry) { return static_cast<u8>(entry & (entry_mapped - 1)); }
inline Entry make_entry(u8 perm, const Frame* frame = nullptr) {
    return perm | entry_mapped | reinterpret_cast<Entry>(frame);
}

// Releases references to frames.
struct FrameOwner {
    virtual void release(Frame* frame) = 0;

  protected:
    ~FrameOwner() = default;
};

class PageTable {
  public:
    explicit PageTable(FrameOwner& owner) : owner_(owner), root_(new Node) {}
    PageTable(const PageTable& other) : owner_(other.owner_), root_(other.root_) { ++root_->refs; }
    PageTable& operator=(const PageTable&) = delete;
    ~PageTable() { drop_node(root_, top); }

    Entry get(u64 page) const {
        const Node* node = root_;
        for (int level = top; level > 0; --level) {
            const Entry entry = node->entry[index(page, level)];
            if (!pointer(entry)) return entry;
            node = node_of(entry);
        }
        return node->entry[index(page, 0)];
    }

    // The leaf entry of the page, on a path that is not shared. The reference count of its frame is
    // exact then: 1 means that no other address space maps the frame.
    Entry& own(u64 page) {
        own_root();
        Node* node = root_;
        for (int level = top; level > 0; --level)
            node = own_child(node->entry[index(page, level)], level);
        return node->entry[index(page, 0)];
    }

    // Set all pages of the range to `entry`, which has no frame: 0 or permissions.
    void fill(u64 first, u64 count, Entry entry) {
        own_root();
        fill(root_, top, first, first + count - 1, entry);
    }

    // change(Entry&) for every mapped leaf of the range, or subtree without frames.
    template <class F>
    void change(u64 first, u64 count, F&& change_entry) {
        own_root();
        change(root_, top, first, first + count - 1, change_entry);
    }

    // visit(page, count, entry) for every mapped leaf, or (part of a) subtree without frames.
    template <class F>
    void visit(u64 first, u64 count, F&& visit_entry) const {
        visit(root_, top, 0, first, first + count - 1, visit_entry);
    }

  private:
    static constexpr int top = 4;
    static constexpr int bits = 9;
    static constexpr u64 fanout = u64{1} << bits;

    struct alignas(128) Node {
        u32 refs = 1;
        Entry entry[fanout] = {};
    };

    static u64 index(u64 page, int level) { return (page >> (bits * level)) & (fanout - 1); }
    static u64 span(int level) { return u64{1} << (bits * level); }  // pages below one entry
    static u64 pointer(Entry entry) { return entry & ~entry_flags; }
    static Node* node_of(Entry entry) { return reinterpret_cast<Node*>(pointer(entry)); }

    void own_root() {
        if (root_->refs > 1) root_ = copy_node(root_, top);
    }

    // The node below `entry` (at `level` > 0), unshared; a uniform subtree is expanded to one.
    Node* own_child(Entry& entry, int level) {
        Node* node = node_of(entry);
        if (!node) {
            node = new Node;
            std::fill_n(node->entry, fanout, entry);
            entry = reinterpret_cast<Entry>(node);
        } else if (node->refs > 1) {
            node = copy_node(node, level - 1);
            entry = reinterpret_cast<Entry>(node);
        }
        return node;
    }

    Node* copy_node(Node* node, int level) {
        Node* copy = new Node;
        std::copy_n(node->entry, fanout, copy->entry);
        for (Entry entry : copy->entry) {
            if (!pointer(entry)) continue;
            if (level == 0)
                ++frame_of(entry)->refs;
            else
                ++node_of(entry)->refs;
        }
        --node->refs;
        return copy;
    }

    void drop_node(Node* node, int level) {
        if (--node->refs) return;
        for (Entry entry : node->entry) drop(entry, level);
        delete node;
    }

    // Drop the reference of an entry of a node at `level`.
    void drop(Entry entry, int level) {
        if (!pointer(entry)) return;
        if (level == 0)
            owner_.release(frame_of(entry));
        else
            drop_node(node_of(entry), level - 1);
    }

    // In the next functions, first and last are pages relative to the first page of the node.
    template <class F>
    static void each_child(int level, u64 first, u64 last, F&& each) {
        const u64 width = span(level);
        for (u64 i = first / width; i <= last / width; ++i) {
            const u64 begin = std::max(first, i * width) - i * width;
            const u64 end = std::min(last, i * width + width - 1) - i * width;
            each(i, begin, end, begin == 0 && end == width - 1);
        }
    }

    void fill(Node* node, int level, u64 first, u64 last, Entry value) {
        each_child(level, first, last, [&](u64 i, u64 begin, u64 end, bool whole) {
            Entry& entry = node->entry[i];
            if (whole) {
                drop(entry, level);
                entry = value;
            } else if (entry != value) {
                fill(own_child(entry, level), level - 1, begin, end, value);
            }
        });
    }

    template <class F>
    void change(Node* node, int level, u64 first, u64 last, F&& change_entry) {
        each_child(level, first, last, [&](u64 i, u64 begin, u64 end, bool whole) {
            Entry& entry = node->entry[i];
            if (!entry) return;
            if (level == 0 || (whole && !pointer(entry)))
                change_entry(entry);
            else
                change(own_child(entry, level), level - 1, begin, end, change_entry);
        });
    }

    template <class F>
    void visit(const Node* node, int level, u64 base, u64 first, u64 last, F&& visit_entry) const {
        each_child(level, first, last, [&](u64 i, u64 begin, u64 end, bool) {
            const Entry entry = node->entry[i];
            const u64 page = base + i * span(level);
            if (!entry) return;
            if (level == 0 || !pointer(entry))
                visit_entry(page + begin, end - begin + 1, entry);
            else
                visit(node_of(entry), level - 1, page, begin, end, visit_entry);
        });
    }

    FrameOwner& owner_;
    Node* root_;
};

}  // namespace core
