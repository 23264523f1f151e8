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

// No instruction adds more than one row to any of these, so a slice no longer than the free rows
// needs no check per row.
constexpr u64 table_capacity = u64{1} << 19;

// Where a column lies in its table's memory: after the column `Before`.
struct FirstColumn {
    static constexpr u64 end = 0;
};
template <class T, class Before = FirstColumn>
struct Column {
    using Type = T;
    static constexpr u64 start = Before::end;
    static constexpr u64 end = start + sizeof(T) * table_capacity;
};

// A table of fixed capacity, all columns in one piece of uninitialised memory. Memory that was handed
// over is used again once its receiver has let go of it: fresh pages cost more than what is written.
// tid and mm are the same during a run: they are filled in at its end (`stamped` rows have them).
template <class Self>
class FixedTable {
  public:
    u64 rows = 0;
    u64 stamped = 0;

    template <class C>
    typename C::Type* column() const {
        return reinterpret_cast<typename C::Type*>(memory_.get() + C::start);
    }
    template <class C>
    void set(u64 row, typename C::Type value) {
        column<C>()[row] = value;
    }

    u64 free() const { return table_capacity - rows; }
    void prepare() {
        if (memory_) return;
        auto unused = std::find_if(handed_over_.begin(), handed_over_.end(),
                                   [](const auto& memory) { return memory.use_count() == 1; });
        if (unused == handed_over_.end()) {
            memory_ = std::make_shared_for_overwrite<u8[]>(Self::Last::end);
        } else {
            memory_ = std::move(*unused);
            handed_over_.erase(unused);
        }
    }
    void stamp(u32 tid, u32 mm) {
        std::fill(column<typename Self::Tid>() + stamped, column<typename Self::Tid>() + rows, tid);
        std::fill(column<typename Self::Mm>() + stamped, column<typename Self::Mm>() + rows, mm);
        stamped = rows;
    }
    // The memory of the rows, which start afresh; null if there never were any.
    std::shared_ptr<u8[]> hand_over() {
        rows = stamped = 0;
        if (!memory_) return nullptr;
        handed_over_.push_back(std::move(memory_));
        return handed_over_.back();
    }

  private:
    std::shared_ptr<u8[]> memory_;
    std::vector<std::shared_ptr<u8[]>> handed_over_;
};

// `each_column` calls f.operator()<Column>(name) in the order of _core.pyi.
struct CfiTable : FixedTable<CfiTable> {
    using Seq = Column<u64>;
    using Tid = Column<u32, Seq>;
    using Mm = Column<u32, Tid>;
    using Kind = Column<u8, Mm>;
    using Pc = Column<u64, Kind>;
    using Addr = Column<u64, Pc>;
    using Value = Column<u64, Addr>;
    using Operand = Column<u64, Value>;
    using SspBefore = Column<u64, Operand>;
    using SspAfter = Column<u64, SspBefore>;
    using Fault = Column<u8, SspAfter>;
    using Last = Fault;

    template <class F>
    static void each_column(F&& f) {
        f.template operator()<Seq>("seq");
        f.template operator()<Tid>("tid");
        f.template operator()<Mm>("mm");
        f.template operator()<Kind>("kind");
        f.template operator()<Pc>("pc");
        f.template operator()<Addr>("addr");
        f.template operator()<Value>("value");
        f.template operator()<Operand>("operand");
        f.template operator()<SspBefore>("ssp_before");
        f.template operator()<SspAfter>("ssp_after");
        f.template operator()<Fault>("fault");
    }
};

struct FlowTable : FixedTable<FlowTable> {
    using Seq = Column<u64>;
    using Tid = Column<u32, Seq>;
    using Mm = Column<u32, Tid>;
    using Block = Column<u32, Mm>;
    using Last = Block;

    template <class F>
    static void each_column(F&& f) {
        f.template operator()<Seq>("seq");
        f.template operator()<Tid>("tid");
        f.template operator()<Mm>("mm");
        f.template operator()<Block>("block");
    }
};

struct InsnTable : FixedTable<InsnTable> {
    using Seq = Column<u64>;
    using Tid = Column<u32, Seq>;
    using Mm = Column<u32, Tid>;
    using Pc = Column<u64, Mm>;
    using Word = Column<u32, Pc>;
    using Rd = Column<u8, Word>;
    using RdValue = Column<u64, Rd>;
    using MemAddr = Column<u64, RdValue>;
    using MemValue = Column<u64, MemAddr>;
    using MemSize = Column<u8, MemValue>;
    using Ssp = Column<u64, MemSize>;
    using Last = Ssp;

    template <class F>
    static void each_column(F&& f) {
        f.template operator()<Seq>("seq");
        f.template operator()<Tid>("tid");
        f.template operator()<Mm>("mm");
        f.template operator()<Pc>("pc");
        f.template operator()<Word>("word");
        f.template operator()<Rd>("rd");
        f.template operator()<RdValue>("rd_value");
        f.template operator()<MemAddr>("mem_addr");
        f.template operator()<MemValue>("mem_value");
        f.template operator()<MemSize>("mem_size");
        f.template operator()<Ssp>("ssp");
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
