// What stands in each word that cfi instructions and the kernel wrote, and what loads found there.
#pragma once

#include <bit>

#include "plain.hpp"

namespace fold {

// Rows of a frame with seq, tid, mm, addr, word, load, found and, of wrong ones, due and due_seq.
struct Accesses {
    Made<u64> seq, addr, word, found, due, due_seq;
    Made<u32> tid, mm;
    Made<u8> load;

    nb::tuple take() {
        return nb::make_tuple(seq.take(), tid.take(), mm.take(), addr.take(), word.take(),
                              load.take(), found.take(), due.take(), due_seq.take());
    }
};

// Who loads, as the rows of derive/slots.py number them.
constexpr u8 BY_POP = 0, BY_SWAP = 1, LOADERS = 4, NOBODY = 255;

struct Access {
    u64 seq;
    bool tid_known, mm_known;
    u32 tid, mm;
    u64 addr;  // a multiple of 8
    bool word_known, found_known;
    u64 word, found;  // what stands there afterwards; what was loaded
    u8 load;          // NOBODY: it is none
};

class Words {
  public:
    // times: ascending; those at which anything was mapped, unmapped or copied.
    explicit Words(nb::bytes times) : times_(numbers(times)), slots_(1 << 12) {}

    // The kernel's accesses, in seq order, in the columns of a record batch.
    void kernels(nb::handle from) {
        Batch batch(from);
        auto seq = batch.column<u64>("seq"), addr = batch.column<u64>("addr"),
             word = batch.column<u64>("word"), found = batch.column<u64>("found");
        auto tid = batch.column<u32>("tid"), mm = batch.column<u32>("mm");
        auto load = batch.column<u8>("load");
        for (i64 i = 0; i < batch.rows(); i++)
            kernels_.push_back({seq[i], tid.has(i), mm.has(i), tid[i], mm[i], addr[i] / 8 * 8,
                                word.has(i), found.has(i), word[i], found[i],
                                load.has(i) && load[i] < LOADERS ? load[i] : NOBODY});
    }

    void take(nb::handle from) {
        Batch batch(from);
        Cfi cfi(batch);
        for (i64 i = 0; i < cfi.rows; i++) {
            u8 kind = cfi.kind[i];
            if ((kind != PUSH && kind != POP && kind != SWAP) || !cfi.addr.has(i)) continue;
            // a pop that meets another address has read its word
            if (cfi.fault.has(i) && !(kind == POP && cfi.fault[i] == SOFTWARE_CHECK)) continue;
            u64 addr = cfi.addr[i];
            bool whole = addr % 8 == 0;  // only ssamoswap.w can stand at half a word
            const auto& found = kind == POP ? cfi.value : cfi.operand;
            u8 load = kind == POP ? BY_POP : kind == SWAP && whole ? BY_SWAP : NOBODY;
            until(cfi.seq[i]);
            access({cfi.seq[i], cfi.tid.has(i), cfi.mm.has(i), cfi.tid[i], cfi.mm[i], addr / 8 * 8,
                    whole && cfi.value.has(i), found.has(i), cfi.value[i], found[i], load});
        }
    }

    // The loads by who loaded; those that found something else than what was written there last;
    // those of words that were not touched since something was mapped, unmapped or copied; and the
    // last row of each word before each of these times.
    nb::tuple end() {
        until(~u64{0});
        while (kernel_ < kernels_.size()) access(kernels_[kernel_++]);
        for (const Slot& slot : slots_)
            if (slot.used) know(slot);
        return nb::make_tuple(nb::make_tuple(loads_[0], loads_[1], loads_[2], loads_[3]),
                              wrong_.take(), asked_.take(), known_.take());
    }

  private:
    static constexpr u8 SOFTWARE_CHECK = 18;

    struct Slot {
        u64 addr, word, seq;
        u32 mm, since;
        bool used, mm_known, word_known;
    };

    void until(u64 seq) {
        while (kernel_ < kernels_.size() && kernels_[kernel_].seq < seq)
            access(kernels_[kernel_++]);
    }

    void access(const Access& row) {
        Slot& slot = find(row);
        u32 since = times_.before(row.seq);
        if (row.load != NOBODY) {
            loads_[row.load]++;
            if (!slot.used || slot.since != since)
                add(asked_, row);
            else if (wrong(row, slot))
                add(wrong_, row, &slot);
        }
        if (slot.used && slot.since != since) know(slot);
        slot = {row.addr, row.word, row.seq, row.mm, since, true, row.mm_known, row.word_known};
    }

    static bool wrong(const Access& row, const Slot& slot) {
        if (!row.found_known || !slot.word_known || row.found == slot.word) return false;
        // ssamoswap.w, which no column tells from ssamoswap.d, gives half a word
        return row.load != BY_SWAP || row.found != (slot.word & 0xffffffff);
    }

    static void add(Accesses& to, const Access& row, const Slot* due = nullptr) {
        to.seq.add(row.seq);
        to.tid.add(row.tid, row.tid_known);
        to.mm.add(row.mm, row.mm_known);
        to.addr.add(row.addr);
        to.word.add(row.word, row.word_known);
        to.load.add(row.load, row.load != NOBODY);
        to.found.add(row.found, row.found_known);
        to.due.add(due ? due->word : 0, due);
        to.due_seq.add(due ? due->seq : 0, due);
    }

    void know(const Slot& slot) {
        add(known_, {slot.seq, false, slot.mm_known, 0, slot.mm, slot.addr, slot.word_known, false,
                     slot.word, 0, NOBODY});
    }

    // Words that are neighbours in memory are neighbours here, in blocks of 64.
    std::size_t place(u64 addr, u32 mm) const {
        u64 block = (addr >> 9) * 0x9e3779b97f4a7c15 + mm * 0xc2b2ae3d27d4eb4f;
        block ^= block >> 29;
        return (block * 64 + (addr >> 3) % 64) & (slots_.size() - 1);
    }

    Slot& find(const Access& row) {
        u32 mm = row.mm_known ? row.mm : 0;
        std::size_t at = place(row.addr, mm);
        while (slots_[at].used) {
            const Slot& slot = slots_[at];
            if (slot.addr == row.addr && slot.mm_known == row.mm_known &&
                (!slot.mm_known || slot.mm == row.mm))
                return slots_[at];
            at = (at + 1) & (slots_.size() - 1);
        }
        if (++used_ * 2 <= slots_.size()) return slots_[at];
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        for (const Slot& slot : old)
            if (slot.used) {
                std::size_t to = place(slot.addr, slot.mm_known ? slot.mm : 0);
                while (slots_[to].used) to = (to + 1) & (slots_.size() - 1);
                slots_[to] = slot;
            }
        used_--;
        return find(row);
    }

    Clock times_;
    std::vector<Access> kernels_;
    std::size_t kernel_ = 0;
    std::vector<Slot> slots_;
    std::size_t used_ = 0;
    u64 loads_[LOADERS] = {};
    Accesses wrong_, asked_, known_;
};

}  // namespace fold
