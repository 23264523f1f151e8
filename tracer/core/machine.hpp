// The state that the harts of a run share: frames, decoded text, instruction count, trace tables.
#pragma once

#include <atomic>
#include <bitset>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "code.hpp"
#include "extensions.hpp"
#include "page_table.hpp"
#include "trace.hpp"
#include "types.hpp"

namespace core {

class Pages;
namespace native {
class Engine;
}

class Machine final : public FrameOwner {
  public:
    static constexpr std::size_t default_native_bytes = std::size_t{64} << 20;

    // Blocks that are entered more than `native_after` times get native code, all of them together
    // `native_bytes`. Throws std::runtime_error if this host can't have any.
    Machine(Extensions extensions, unsigned trace, u64 max_frames,
            std::optional<u64> native_after = {}, std::size_t native_bytes = default_native_bytes);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    ~Machine();

    // A frame of zeros, or a copy of `origin`; null when max_frames are in use and no file has a
    // frame to give back.
    Frame* new_frame(const Frame* origin = nullptr);
    void release(Frame* frame) override;
    u64 frames() const { return frames_; }
    // Read by loads from demand-zero pages; never written.
    u8* zero_page() { return zero_page_; }

    // The decoded text of a frame, created if there is none. Stores to the frame then take the slow
    // path.
    CodePage& code_of(Frame* frame);
    // Decode the block at `offset`; null if its first instruction straddles the end of the page.
    Block* block_at(CodePage& page, u32 offset);
    // The block of the instruction that straddles the end of a page, reused while `word` is equal.
    Block* straddling_block(CodePage& page, u32 word);
    // Drop decoded text because its frame is about to change. bury() frees it later: a hart may be
    // executing it, and leaves a page that is `stale` first.
    void drop_code(Frame* frame);
    void bury();
    bool is_stale(const CodePage* page) const;
    std::vector<const CodePage*> stale;
    // Set the labels for slots, by Op. A change of labels drops all decoded text.
    void use_handlers(const void* const* handlers);
    // Drop all decoded text if it, or native code, exceeds the limit. Only between blocks.
    bool reclaim_code();
    // Null: no native code.
    native::Engine* engine() const { return engine_.get(); }

    std::unordered_set<Pages*> caches;
    bool stored = false;  // a shared mapping was stored to, since the kernel model reset it

    // Address spaces compare this with the value they last saw, and flush their TLBs if it changed.
    u64 tlb_epoch = 1;

    // End blocks before these addresses from now on, so that a trap costs nothing elsewhere.
    void cut_blocks(const std::vector<u64>& addresses);

    // The id of a block in the code table, with a new row the first time; 0 = the table is full.
    u32 flow_id(Block& block, u64 pc, u64 seq, u32 tid, u32 mm);

    const Extensions extensions;
    const u64 native_after;
    unsigned trace;
    u64 icount = 0;
    u64 time_offset = 0;  // csr time reads icount + time_offset
    // The seq of the next step of the kernel at this icount.
    u64 step() {
        const u64 first = icount << seq_shift;
        return last_step = (last_step >> seq_shift == icount ? last_step : first) + 1;
    }
    u64 last_step = 0;  // what it returned last
    Tables tables;

    // Traps (traps.hpp). `noting`: the hart goes on at a trap, and `noted` is the icount before the
    // last one. The instruction after the icount `pass_at` does not stop at its address, and that
    // after `pass_access` not at its accesses.
    bool noting = false;
    u64 noted = 0;
    u64 pass_at = ~u64{0};
    bool pass_access = false;
    bool kernel_stored = false;  // to a watched byte, since the driver reset it

    // Where a hart stopped within a block: if it runs next, the block continues without a flow row.
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
    std::bitset<halfwords_per_page> cuts_;  // by address within any page
    FlowIds flow_ids_;
    std::unique_ptr<native::Engine> engine_;
    alignas(64) u8 zero_page_[page_size] = {};
};

}  // namespace core
