#include "machine.hpp"

#include <cstring>
#include <new>
#include <stdexcept>

#include "decode.hpp"
#include "native/engine.hpp"
#include "pages.hpp"

namespace core {

namespace {

// The decoded text of a hostile program (jumps to every halfword) must not exhaust memory.
constexpr std::size_t code_bytes_limit = std::size_t{64} << 20;

u32 halfword(const Frame& frame, u32 offset) {
    u16 half;
    std::memcpy(&half, frame.bytes + offset, 2);
    return half;
}

}  // namespace

Machine::Machine(Extensions extensions, unsigned trace, u64 max_frames,
                 std::optional<u64> native_after, std::size_t native_bytes)
    : extensions(extensions), native_after(native_after.value_or(0)), trace(trace),
      max_frames_(max_frames) {
    if (!native_after) return;
    std::string obstacle;
    engine_ = native::Engine::create(native_bytes, obstacle);
    if (!engine_) throw std::runtime_error(obstacle);
}

Machine::~Machine() { forget_all_code(); }

Frame* Machine::new_frame(const Frame* origin) {
    if (max_frames_ && frames_ >= max_frames_) {
        for (Pages* pages : caches) pages->reclaim();
        if (frames_ >= max_frames_) return nullptr;
    }
    return origin ? adopt_frame(origin->lineage, origin->bytes)
                  : adopt_frame(++lineages_, zero_page_);
}

Frame* Machine::adopt_frame(u64 lineage, const u8* bytes) {
    Frame* frame = new Frame;
    std::memcpy(frame->bytes, bytes, page_size);
    frame->lineage = lineage;
    ++frames_;
    return frame;
}

void Machine::release(Frame* frame) {
    if (--frame->refs) return;
    if (frame->code) forget_code(frame);
    delete frame;
    --frames_;
}

CodePage& Machine::code_of(Frame* frame) {
    if (frame->code) return *frame->code;
    if (frame->written) {
        frame->written = false;
        ++tlb_epoch;
    }
    auto* page = new CodePage(frame);
    page->index = code_pages_.size();
    code_pages_.push_back(page);
    frame->code = page;
    account(*page, sizeof(CodePage));
    return *page;
}

void Machine::account(CodePage& page, std::size_t bytes) {
    page.bytes += bytes;
    code_bytes_ += bytes;
}

// Detaches the decoded text of a frame and returns it.
std::unique_ptr<CodePage> Machine::take_code(Frame* frame) {
    CodePage* page = frame->code;
    frame->code = nullptr;
    code_bytes_ -= page->bytes;
    code_pages_[page->index] = code_pages_.back();
    code_pages_[page->index]->index = page->index;
    code_pages_.pop_back();
    ++tlb_epoch;
    return std::unique_ptr<CodePage>(page);
}

void Machine::drop_code(Frame* frame) {
    stale.push_back(frame->code);
    graveyard_.push_back(take_code(frame));
}

void Machine::forget_code(Frame* frame) { take_code(frame); }

void Machine::forget_all_code() {
    while (!code_pages_.empty()) forget_code(code_pages_.back()->frame);
}

void Machine::bury() {
    stale.clear();
    graveyard_.clear();
}

bool Machine::is_stale(const CodePage* page) const {
    return std::find(stale.begin(), stale.end(), page) != stale.end();
}

bool Machine::reclaim_code() {
    const bool full = engine_ && engine_->full();
    if (code_bytes_ <= code_bytes_limit && !full) return false;
    forget_all_code();
    if (full) engine_->clear();
    return true;
}

void Machine::cut_blocks(const std::vector<u64>& addresses) {
    const auto before = cuts_;
    for (u64 address : addresses) cuts_.set((address & page_mask) / 2);
    if (cuts_ == before) return;
    forget_all_code();
    if (engine_) engine_->clear();
}

Block* Machine::block_at(CodePage& page, u32 offset) {
    const Frame& frame = *page.frame;
    Draft draft;
    bool ended = false;
    while (!ended && offset + draft.length < page_size) {
        const u32 at = offset + draft.length;
        if (draft.count && cuts_[at / 2]) break;
        u32 word = halfword(frame, at);
        if (!is_compressed(word)) {
            if (at + 4 > page_size) break;
            word |= halfword(frame, at + 2) << 16;
        }
        ended = append(draft, word);
    }
    if (draft.count == 0) return nullptr;
    Block* const block = install(page, draft);
    block->offset = offset;
    if (cuts_[offset / 2])
        block->slots()->handler = handlers_[op_break];
    else if (engine_)
        block->slots()->handler = handlers_[op_warm];
    return page.entry[offset / 2] = block;
}

Block* Machine::straddling_block(CodePage& page, u32 word) {
    Block*& known = page.straddling;
    if (known && known->info->word == word) return known;
    std::free(known);
    known = nullptr;
    Draft draft;
    append(draft, word);
    known = install(page, draft);
    if (cuts_[halfwords_per_page - 1]) known->slots()->handler = handlers_[op_break];
    return known;
}

// Adds an instruction; true if it ends the block.
bool Machine::append(Draft& draft, u32 word) const {
    Slot& slot = draft.slots[draft.count] = Slot{};
    const Op op = decode(extensions, word, static_cast<u16>(draft.length), slot);
    slot.handler = handlers_[op];
    draft.info[draft.count++] = {word, op, static_cast<u16>(draft.length)};
    draft.length += is_compressed(word) ? 2 : 4;
    draft.ended = ends_block(op);
    return draft.ended;
}

Block* Machine::install(CodePage& page, Draft& draft) {
    u32 slots = draft.count;
    if (!draft.ended) {
        draft.slots[slots] = Slot{handlers_[op_fallthrough], 0, 0, 0, 0, 0};
        draft.info[slots++] = {0, op_fallthrough, static_cast<u16>(draft.length)};
    }
    const std::size_t bytes = sizeof(Block) + slots * (sizeof(Slot) + sizeof(Info));
    void* memory = std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    account(page, bytes);
    Block* block = new (memory)
        Block{.page = &page, .info = nullptr, .count = draft.count, .length = draft.length};
    std::memcpy(block->slots(), draft.slots, slots * sizeof(Slot));
    Info* const info = reinterpret_cast<Info*>(block->slots() + slots);
    std::memcpy(info, draft.info, slots * sizeof(Info));
    block->info = info;
    return block;
}

void Machine::use_handlers(const void* const* handlers) {
    if (handlers == handlers_) return;
    forget_all_code();
    handlers_ = handlers;
}

u32 Machine::flow_id(Block& block, u64 pc, u64 seq, u32 tid, u32 mm) {
    if (block.flow_id && block.flow_pc == pc) return block.flow_id;
    CodeTable& code = tables.code;
    if (code.full()) return 0;

    std::string bytes;
    for (u32 i = 0; i < block.count; ++i) {
        const u32 word = block.info[i].word;
        bytes.append(reinterpret_cast<const char*>(&word), is_compressed(word) ? 2 : 4);
    }
    const u64 where[2] = {block.page->frame->lineage, pc};
    std::string key(reinterpret_cast<const char*>(where), sizeof where);
    const auto [it, is_new] =
        flow_ids_.try_emplace(key + bytes, static_cast<u32>(flow_ids_.size() + 1));
    if (is_new) {
        code.column<"seq">().push_back(seq);
        code.column<"tid">().push_back(tid);
        code.column<"mm">().push_back(mm);
        code.column<"block">().push_back(it->second);
        code.column<"pc">().push_back(pc);
        code.column<"length">().push_back(block.length);
        auto& text = code.column<"bytes">();
        text.insert(text.end(), bytes.begin(), bytes.end());
        code.column<"bytes_offset">().push_back(static_cast<i32>(text.size()));
    }
    block.flow_id = it->second;
    block.flow_pc = pc;
    return block.flow_id;
}

}  // namespace core
