// The trace tables: plain columns that the loop appends to and that are handed over whole.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "types.hpp"

namespace core {

// Indices into schemas' CFI_KINDS.
enum CfiKind : u8 {
    cfi_sspush, cfi_sspopchk, cfi_ssamoswap, cfi_ssrdp, cfi_ssp_read, cfi_ssp_write, cfi_lpad
};

// One column's memory, uninitialised. Memory that was handed over is used again once its receiver
// has let go of it: fresh pages would cost more than what is written to them.
template <class T>
class Column {
  public:
    std::shared_ptr<T[]> data;
    T& operator[](u64 row) const { return data.get()[row]; }
    void make(u64 rows) {
        auto free = std::find_if(handed_over_.begin(), handed_over_.end(),
                                 [](const auto& memory) { return memory.use_count() == 1; });
        if (free == handed_over_.end()) {
            data = std::make_shared_for_overwrite<T[]>(rows);
        } else {
            data = std::move(*free);
            handed_over_.erase(free);
        }
    }
    void hand_over() { handed_over_.push_back(std::move(data)); }

  private:
    std::vector<std::shared_ptr<T[]>> handed_over_;
};

// No instruction adds more than one row to any of these, so a slice no longer than the free rows
// needs no check per row.
constexpr u64 table_capacity = u64{1} << 19;

// tid and mm are the same during a run: they are filled in at its end (`stamped` rows have them).
template <class Self>
struct FixedTable {
    u64 rows = 0;
    u64 stamped = 0;

    void prepare() {
        if (!allocated_) self().columns([](const char*, auto& column) { column.make(table_capacity); });
        allocated_ = true;
    }
    u64 free() const { return table_capacity - rows; }
    void stamp(u32 tid, u32 mm) {
        std::fill(&self().tid[stamped], &self().tid[rows], tid);
        std::fill(&self().mm[stamped], &self().mm[rows], mm);
        stamped = rows;
    }
    // The columns now belong to whoever copied them.
    void reset() {
        if (allocated_) self().columns([](const char*, auto& column) { column.hand_over(); });
        rows = stamped = 0;
        allocated_ = false;
    }

  private:
    Self& self() { return static_cast<Self&>(*this); }
    bool allocated_ = false;
};

struct CfiTable : FixedTable<CfiTable> {
    Column<u64> seq;
    Column<u32> tid, mm;
    Column<u8> kind;
    Column<u64> pc, addr, value, operand, ssp_before, ssp_after;
    Column<u8> fault;

    template <class F>
    void columns(F&& f) {
        f("seq", seq), f("tid", tid), f("mm", mm), f("kind", kind), f("pc", pc), f("addr", addr);
        f("value", value), f("operand", operand), f("ssp_before", ssp_before);
        f("ssp_after", ssp_after), f("fault", fault);
    }
};

struct FlowTable : FixedTable<FlowTable> {
    Column<u64> seq;
    Column<u32> tid, mm, block;

    template <class F>
    void columns(F&& f) {
        f("seq", seq), f("tid", tid), f("mm", mm), f("block", block);
    }
};

struct InsnTable : FixedTable<InsnTable> {
    Column<u64> seq;
    Column<u32> tid, mm;
    Column<u64> pc;
    Column<u32> word;
    Column<u8> rd;
    Column<u64> rd_value, mem_addr, mem_value;
    Column<u8> mem_size;
    Column<u64> ssp;

    template <class F>
    void columns(F&& f) {
        f("seq", seq), f("tid", tid), f("mm", mm), f("pc", pc), f("word", word), f("rd", rd);
        f("rd_value", rd_value), f("mem_addr", mem_addr), f("mem_value", mem_value);
        f("mem_size", mem_size), f("ssp", ssp);
    }
};

// Grows as needed; the loop asks `full` before a block that may be new.
struct CodeTable {
    static constexpr std::size_t byte_limit = std::size_t{1} << 26;

    std::vector<u64> seq;
    std::vector<u32> tid, mm, block;
    std::vector<u64> pc;
    std::vector<u32> length;
    std::vector<i32> bytes_offset{0};
    std::vector<u8> bytes;

    bool full() const { return bytes.size() > byte_limit; }
};

struct Tables {
    CfiTable cfi;
    FlowTable flow;
    InsnTable insn;
    CodeTable code;
};

// Block ids in order of first execution, by (frame lineage, pc, bytes): text that is dropped and
// decoded again unchanged keeps its ids.
using FlowIds = std::unordered_map<std::string, u32>;

}  // namespace core
