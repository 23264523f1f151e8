// What the harts of one run share: frames, decoded text, the instruction count, trace tables.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "code.hpp"
#include "extensions.hpp"
#include "page_table.hpp"
#include "trace.hpp"
#include "types.hpp"

namespace core {

class Machine final : public FrameOwner {
  public:
    Machine(Extensions extensions, unsigned trace, u64 max_frames);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine();

    // A frame of zeros, or a copy of `origin`; null when max_frames are in use.
    Frame* new_frame(const Frame* origin = nullptr);
    void release(Frame* frame) override;
    u64 frames() const { return frames_; }
    // Read by loads from demand-zero pages; never written.
    u8* zero_page() { return zero_page_; }

    // The decoded text of a frame, made if there is none. Stores to the frame leave the fast path.
    CodePage& code_of(Frame* frame);
    // Decode the block at `offset` of a page; null if its first instruction straddles the page's end.
    Block* block_at(CodePage& page, u32 offset);
    // The block of the one instruction that straddles the page's end, kept while `word` is the same.
    Block* straddling_block(CodePage& page, u32 word);
    // Forget decoded text because its frame is about to change. It lives on until bury(), because a
    // hart may be executing it; the hart leaves pages that are `stale`.
    void drop_code(Frame* frame);
    void bury();
    bool is_stale(const CodePage* page) const;
    std::vector<const CodePage*> stale;
    // The labels that slots are decoded to, by Op; other ones than before forget all decoded text.
    void use_handlers(const void* const* handlers);
    // Forget all decoded text if there is too much of it. Only between blocks.
    bool reclaim_code();

    // Address spaces compare this with the value they last saw, and flush their TLBs if it moved.
    u64 tlb_epoch = 1;

    // The code table's id of a block, with a new row the first time; 0 = the code table is full.
    u32 flow_id(Block& block, u64 pc, u64 seq, u32 tid, u32 mm);

    const Extensions extensions;
    unsigned trace;
    u64 icount = 0;
    Tables tables;

    // A hart stopped in mid-block here: if it is the next to run, the block goes on without a row.
    struct {
        u64 hart = 0;
        u64 space = 0;
        u64 pc = 0;
        u64 icount = 0;
    } interrupted;

    u64 next_id = 1;  // of harts and address spaces
    std::atomic<bool> running = false;

  private:
    friend class Snapshot;

    Frame* adopt_frame(u64 lineage, const u8* bytes);
    std::unique_ptr<CodePage> take_code(Frame* frame);
    void forget_code(Frame* frame);
    void forget_all_code();
    void account(CodePage& page, std::size_t bytes);
    bool append(Draft& draft, u32 word) const;
    Block* install(CodePage& page, Draft& draft);

    const u64 max_frames_;
    u64 frames_ = 0;
    u64 lineages_ = 0;
    const void* const* handlers_ = nullptr;
    std::size_t code_bytes_ = 0;
    std::vector<CodePage*> code_pages_;
    std::vector<std::unique_ptr<CodePage>> graveyard_;
    FlowIds flow_ids_;
    alignas(64) u8 zero_page_[page_size] = {};
};

}  // namespace core
