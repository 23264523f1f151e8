// A part of cfi in brief: the rows that are not plain, and the first of those plain ones that are
// alike, with their number.
#pragma once

#include "plain.hpp"

namespace fold {

// Plain rows are alike if they are of one task, address space, kind and page, and no time of
// `times` lies between them. Where ssp is not what the row before has left, that row and this one
// are told too; those that stand for no row, because one like them was told, count 0.
class Brief {
  public:
    // times: ascending; a row at a time is after it. page: its size as a power of two.
    Brief(nb::bytes times, int page) : times_(numbers(times)), page_(page) {
        if (page < 0 || page > 63) throw std::invalid_argument("page");
    }

    // The indices of the rows of this batch that are told: the last one always is.
    nb::tuple take(nb::handle from) {
        Batch batch(from);
        Cfi cfi(batch);
        for (row_ = 0; row_ < cfi.rows; row_++) {
            i64 i = row_;
            u64 seq = cfi.seq[i];
            Owner owner{cfi.tid.has(i), cfi.mm.has(i), cfi.tid[i], cfi.mm[i],
                        times_.before(seq + (seq != ~u64{0}))};
            bool same = begun_ && owner == owner_;
            if (!same) round_++;
            bool follows = same && owner.tid_known && owner.mm_known && cfi.ssp_before.has(i) &&
                           known_after_ && cfi.ssp_before[i] == after_;
            if (!follows && row_) tell_last();
            begun_ = true;
            owner_ = owner;
            known_after_ = cfi.ssp_after.has(i);
            after_ = cfi.ssp_after[i];
            last_ = {seq, cfi.addr[i], cfi.addr.has(i), cfi.plain(i), follows};
            told_ = false;
            if (!last_.plain) {
                tell(1);
                continue;
            }
            u64 page = last_.has_addr ? last_.addr >> page_ : ~u64{0};
            Alike& alike = alike_[(page * 3 + cfi.kind[i]) % alike_.size()];
            if (alike.round == round_ && alike.page == page && alike.kind == cfi.kind[i]) {
                count_[alike.at]++;
                until_[alike.at] = seq;
                if (last_.has_addr) {
                    lowest_[alike.at] = std::min(lowest_[alike.at], last_.addr);
                    highest_[alike.at] = std::max(highest_[alike.at], last_.addr);
                }
                if (!follows) tell(0);
                continue;
            }
            alike = {round_, page, cfi.kind[i], count_.size()};
            tell(1);
        }
        if (row_) tell_last();  // the row before the next batch, which may not follow it
        return index_.take();
    }

    // What was taken: of each row told count, the last seq, lowest and highest address of those it
    // stands for, whether it follows the row before, and whether it is plain.
    nb::tuple end() {
        begun_ = false;
        round_++;
        return nb::make_tuple(count_.take(), until_.take(), lowest_.take(), highest_.take(),
                              follows_.take(), plain_.take());
    }

  private:
    struct Owner {
        bool tid_known, mm_known;
        u32 tid, mm;
        u32 since;
        bool operator==(const Owner& other) const {
            return tid_known == other.tid_known && mm_known == other.mm_known &&
                   (!tid_known || tid == other.tid) && (!mm_known || mm == other.mm) &&
                   since == other.since;
        }
    };
    struct Row {
        u64 seq, addr;
        bool has_addr, plain, follows;
    };
    struct Alike {
        u64 round = 0, page = 0;
        u8 kind = 0;
        std::size_t at = 0;
    };

    void tell_last() {
        if (!told_) tell(0, row_ - 1);
    }
    void tell(u32 count) { tell(count, row_); }
    void tell(u32 count, i64 row) {
        told_ = true;
        index_.add(static_cast<u32>(row));
        count_.add(count);
        until_.add(last_.seq);
        lowest_.add(last_.addr, last_.has_addr);
        highest_.add(last_.addr, last_.has_addr);
        follows_.add(last_.follows);
        plain_.add(last_.plain);
    }

    Clock times_;
    int page_;
    i64 row_ = 0;  // of the batch
    u64 round_ = 1;
    Owner owner_{};
    Row last_{};
    bool begun_ = false, told_ = false, known_after_ = false;
    u64 after_ = 0;
    std::array<Alike, 256> alike_{};
    Made<u32> index_, count_;
    Made<u64> until_, lowest_, highest_;
    Made<u8> follows_, plain_;
};

}  // namespace fold
