// Which instructions the plain rows of cfi are of: the first row at each pc, and how many there
// are.
#pragma once

#include "plain.hpp"

namespace fold {

class Places {
  public:
    void take(nb::handle from) {
        Batch batch(from);
        Cfi cfi(batch);
        for (i64 i = 0; i < cfi.rows; i++) {
            if (!cfi.plain(i)) continue;
            u8 kind = cfi.kind[i];
            u64 pc = cfi.pc[i], label = kind == PAD ? cfi.value[i] : 0;
            std::size_t at = place(pc);
            while (slots_[at] && !is(slots_[at] - 1, pc, kind, label))
                at = (at + 1) & (slots_.size() - 1);
            if (slots_[at]) {
                count_[slots_[at] - 1]++;
                continue;
            }
            pc_.add(pc);
            kind_.add(kind);
            label_.add(label, kind == PAD);
            count_.add(1);
            seq_.add(cfi.seq[i]);
            tid_.add(cfi.tid[i]);
            mm_.add(cfi.mm[i]);
            addr_.add(cfi.addr[i], cfi.addr.has(i));
            slots_[at] = static_cast<u32>(pc_.size());
            if (pc_.size() * 2 > slots_.size()) grow();
        }
    }

    // pc, kind (an index of PLAIN), label, count; seq, tid, mm and addr of the first.
    nb::tuple end() {
        return nb::make_tuple(pc_.take(), kind_.take(), label_.take(), count_.take(), seq_.take(),
                              tid_.take(), mm_.take(), addr_.take());
    }

  private:
    bool is(std::size_t at, u64 pc, u8 kind, u64 label) {
        return pc_[at] == pc && kind_[at] == kind && label_[at] == label;
    }
    std::size_t place(u64 pc) const {
        return (pc * 0x9e3779b97f4a7c15 >> 20) & (slots_.size() - 1);
    }
    void grow() {
        slots_.assign(slots_.size() * 2, 0);
        for (std::size_t i = 0; i < pc_.size(); i++) {
            std::size_t at = place(pc_[i]);
            while (slots_[at]) at = (at + 1) & (slots_.size() - 1);
            slots_[at] = static_cast<u32>(i + 1);
        }
    }

    std::vector<u32> slots_ = std::vector<u32>(1 << 12);  // 1 + the index of a place; 0: none
    Made<u64> pc_, label_, count_, seq_, addr_;
    Made<u32> tid_, mm_;
    Made<u8> kind_;
};

}  // namespace fold
