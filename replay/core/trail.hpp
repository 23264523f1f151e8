// What a table of instructions tells by its positions and tasks alone.
#pragma once

#include <unordered_map>

#include "columns.hpp"

namespace fold {

// Who ran from when to when; the rows that are not in order, at an instruction's end or within the
// run; and of each address space the first and the last row.
class Trail {
  public:
    // steps: of a seq to the next instruction. end: the icount of the run's last instruction.
    Trail(u64 steps, u64 end) : steps_(steps), end_(end) {
        if (!steps) throw std::invalid_argument("steps");
    }

    void take(nb::handle from) {
        Batch batch(from);
        auto seq = batch.column<u64>("seq");
        auto tid = batch.column<u32>("tid"), mm = batch.column<u32>("mm");
        for (i64 i = 0; i < batch.rows(); i++, count_++) {
            u64 now = seq[i];
            Turn turn{tid.has(i), mm.has(i), tid.has(i) ? tid[i] : 0, mm.has(i) ? mm[i] : 0};
            if (!count_ || !(turn == turn_)) {
                if (count_) last_.add(before_);
                turn_ = turn;
                first_.add(now);
                tid_.add(turn.tid, turn.tid_known);
                mm_.add(turn.mm, turn.mm_known);
                span_ = turn.mm_known ? &spans_[turn.mm] : nullptr;
                if (span_ && !span_->known) *span_ = {true, turn.tid_known, turn.tid, now, now};
            }
            if (span_) {
                span_->first = std::min(span_->first, now);
                span_->last = std::max(span_->last, now);
            }
            if ((count_ && now <= before_) || now % steps_ || now / steps_ > end_) {
                odd_seq_.add(now);
                odd_tid_.add(turn.tid, turn.tid_known);
                odd_mm_.add(turn.mm, turn.mm_known);
            }
            before_ = now;
        }
    }

    // The number of rows; seq, last, tid and mm of each turn; seq, tid and mm of the odd rows; mm,
    // seq, last and the first tid of each address space.
    nb::tuple end() {
        if (count_) last_.add(before_);
        Made<u32> mm, tid;
        Made<u64> first, last;
        for (const auto& [number, span] : spans_) {
            mm.add(number);
            first.add(span.first);
            last.add(span.last);
            tid.add(span.tid, span.tid_known);
        }
        return nb::make_tuple(count_,
                              nb::make_tuple(first_.take(), last_.take(), tid_.take(), mm_.take()),
                              nb::make_tuple(odd_seq_.take(), odd_tid_.take(), odd_mm_.take()),
                              nb::make_tuple(mm.take(), first.take(), last.take(), tid.take()));
    }

  private:
    struct Turn {
        bool tid_known, mm_known;
        u32 tid, mm;
        bool operator==(const Turn&) const = default;
    };
    struct Span {
        bool known = false, tid_known = false;
        u32 tid = 0;
        u64 first = 0, last = 0;
    };

    u64 steps_, end_, count_ = 0, before_ = 0;
    Turn turn_{};
    Span* span_ = nullptr;
    std::unordered_map<u32, Span> spans_;
    Made<u64> first_, last_, odd_seq_;
    Made<u32> tid_, mm_, odd_tid_, odd_mm_;
};

}  // namespace fold
