// How many instructions each block of flow took until the next one began.
#pragma once

#include <unordered_map>

#include "columns.hpp"

namespace fold {

class Steps {
  public:
    // steps: of a seq to the next instruction. blocks, lengths: of those known, instructions.
    Steps(u64 steps, nb::bytes blocks, nb::bytes lengths) : steps_(steps) {
        auto names = numbers(blocks), counts = numbers(lengths);
        if (!steps || names.size() != counts.size()) throw std::invalid_argument("lengths");
        dense_.resize(std::min<u64>(names.size() * 2 + 1024, 1 << 24));
        for (std::size_t i = 0; i < names.size(); i++) {
            Block& block = find(static_cast<u32>(names[i]));
            block.has_length = true;
            block.length = counts[i];
        }
    }

    void take(nb::handle from) {
        Batch batch(from);
        auto seq = batch.column<u64>("seq");
        auto tid = batch.column<u32>("tid"), mm = batch.column<u32>("mm"),
             number = batch.column<u32>("block");
        for (i64 i = 0; i < batch.rows(); i++, count_++) {
            u32 to = number.has(i) ? number[i] : 0;
            Block& block = find(to);
            if (last_) {
                u64 took = seq[i] / steps_ - seq_ / steps_;
                if (last_->has_length && took != last_->length) odd(took, to);
            }
            if (!block.ran) {
                block.ran = true;
                block.first = seq[i];
                block.tid_known = tid.has(i);
                block.tid = block.tid_known ? tid[i] : 0;
                ran_.push_back(to);
            }
            block.first = std::min(block.first, seq[i]);
            last_ = &block;
            seq_ = seq[i];
            tid_ = tid.has(i) ? tid[i] : 0, tid_known_ = tid.has(i);
            mm_ = mm.has(i) ? mm[i] : 0, mm_known_ = mm.has(i);
            number_ = to;
        }
    }

    // The number of rows; seq, tid, mm, block, took, then (the next block) and has (its length) of
    // those that took another number; block, first and by of each that ran.
    nb::tuple end() {
        Made<u32> block, by;
        Made<u64> first;
        for (u32 number : ran_) {
            const Block& found = find(number);
            block.add(number);
            first.add(found.first);
            by.add(found.tid, found.tid_known);
        }
        return nb::make_tuple(
            count_,
            nb::make_tuple(odd_seq_.take(), odd_tid_.take(), odd_mm_.take(), odd_block_.take(),
                           odd_took_.take(), odd_then_.take(), odd_has_.take()),
            nb::make_tuple(block.take(), first.take(), by.take()));
    }

  private:
    struct Block {
        bool has_length = false, ran = false, tid_known = false;
        u32 tid = 0;
        u64 length = 0, first = 0;
    };

    Block& find(u32 number) { return number < dense_.size() ? dense_[number] : others_[number]; }

    void odd(u64 took, u32 then) {
        odd_seq_.add(seq_);
        odd_tid_.add(tid_, tid_known_);
        odd_mm_.add(mm_, mm_known_);
        odd_block_.add(number_);
        odd_took_.add(took);
        odd_then_.add(then);
        odd_has_.add(last_->length);
    }

    u64 steps_, count_ = 0, seq_ = 0;
    u32 tid_ = 0, mm_ = 0, number_ = 0;
    bool tid_known_ = false, mm_known_ = false;
    Block* last_ = nullptr;
    std::vector<Block> dense_;  // blocks are numbered from 1
    std::unordered_map<u32, Block> others_;
    std::vector<u32> ran_;
    Made<u64> odd_seq_, odd_took_, odd_has_;
    Made<u32> odd_tid_, odd_mm_, odd_block_, odd_then_;
};

}  // namespace fold
