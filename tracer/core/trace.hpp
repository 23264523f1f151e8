// The trace tables: columns that the loop appends to and that Python takes over whole.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "types.hpp"

namespace core {

// The kinds of cfi rows. The number of a kind is its index in schemas' CFI_KINDS; a test compares
// the words.
#define CFI_KINDS(X) X(sspush) X(sspopchk) X(ssamoswap) X(ssrdp) X(ssp_read) X(ssp_write) X(lpad)
#define ENUMERATOR(word) cfi_##word,
enum CfiKind : u8 { CFI_KINDS(ENUMERATOR) };
#undef ENUMERATOR

// The name of a column, as a template argument.
template <std::size_t N>
struct Name {
    char text[N];

    consteval Name(const char (&name)[N]) { std::copy_n(name, N, text); }
    constexpr std::string_view view() const { return {text, N - 1}; }
};

template <Name name_, class T>
struct Column {
    static constexpr auto name = name_;
    using Type = T;
};

// The index of the column with that name. It does not compile if there is none.
template <Name name, class... Columns>
consteval std::size_t index_of() {
    std::size_t at = 0;
    if (!((Columns::name.view() == name.view() || (++at, false)) || ...)) throw "no such column";
    return at;
}
template <Name name, class... Columns>
using TypeOf =
    typename std::tuple_element_t<index_of<name, Columns...>(), std::tuple<Columns...>>::Type;

// No instruction adds more than one row to a FixedTable, so a slice no longer than the free rows
// needs no check per row.
constexpr u64 table_capacity = u64{1} << 19;

// A table of fixed capacity, all columns in one piece of uninitialised memory. Memory that was
// handed over is reused once its receiver has released it, because fresh pages cost more than the
// rows. tid and mm do not change during a slice, so they are filled in at its end (`stamped` rows
// have them).
template <class... Columns>
class FixedTable {
  public:
    u64 rows = 0;
    u64 stamped = 0;

    template <Name name>
    void set(u64 row, TypeOf<name, Columns...> value) {
        column<name>()[row] = value;
    }

    u64 free() const { return table_capacity - rows; }
    void prepare() {
        if (memory_) return;
        auto unused = std::find_if(handed_over_.begin(), handed_over_.end(),
                                   [](const auto& memory) { return memory.use_count() == 1; });
        if (unused == handed_over_.end()) {
            memory_ = std::make_shared_for_overwrite<u8[]>(start(sizeof...(Columns)));
        } else {
            memory_ = std::move(*unused);
            handed_over_.erase(unused);
        }
    }
    // Where the value of the next row goes.
    template <Name name>
    TypeOf<name, Columns...>* next() {
        return column<name>() + rows;
    }
    void stamp(u32 tid, u32 mm) {
        std::fill(column<"tid">() + stamped, column<"tid">() + rows, tid);
        std::fill(column<"mm">() + stamped, column<"mm">() + rows, mm);
        stamped = rows;
    }

    // Calls f(name, values, count, memory) for each column and leaves the table empty. The values
    // live as long as the memory.
    template <class F>
    void drain(F&& f) {
        const u64 count = std::exchange(rows, 0);
        stamped = 0;
        const std::shared_ptr<u8[]> memory = std::move(memory_);
        if (memory) handed_over_.push_back(memory);
        const auto give = [&]<Name name, class T>(Column<name, T>) {
            constexpr u64 at = start(index_of<name, Columns...>());
            f(name.text, memory ? reinterpret_cast<T*>(memory.get() + at) : nullptr, count, memory);
        };
        (give(Columns{}), ...);
    }
    // Calls f(name, T{}) for each column, which holds values of type T.
    template <class F>
    static void each_column(F&& f) {
        (f(Columns::name.text, typename Columns::Type{}), ...);
    }

  private:
    // The offset of a column in the memory of the table.
    static constexpr u64 start(std::size_t index) {
        const u64 sizes[] = {sizeof(typename Columns::Type)...};
        return table_capacity * std::accumulate(sizes, sizes + index, u64{0});
    }
    template <Name name>
    TypeOf<name, Columns...>* column() const {
        constexpr u64 at = start(index_of<name, Columns...>());
        return reinterpret_cast<TypeOf<name, Columns...>*>(memory_.get() + at);
    }

    std::shared_ptr<u8[]> memory_;
    std::vector<std::shared_ptr<u8[]>> handed_over_;
};

// A table that grows as needed.
template <class... Columns>
class GrowingTable {
  public:
    template <Name name>
    std::vector<TypeOf<name, Columns...>>& column() {
        return std::get<index_of<name, Columns...>()>(columns_);
    }
    template <Name name>
    const std::vector<TypeOf<name, Columns...>>& column() const {
        return std::get<index_of<name, Columns...>()>(columns_);
    }

    // Calls f(name, vector) for each column.
    template <class F>
    void each(F&& f) {
        (f(Columns::name.text, column<Columns::name>()), ...);
    }
    template <class F>
    static void each_column(F&& f) {
        (f(Columns::name.text, typename Columns::Type{}), ...);
    }

  private:
    std::tuple<std::vector<typename Columns::Type>...> columns_;
};

// The columns have the names, types and order of schemas/tables.py, which documents them; a test
// compares the two. _core.pyi says what stands for null.
using CfiTable = FixedTable<Column<"seq", u64>, Column<"tid", u32>, Column<"mm", u32>,
                            Column<"pc", u64>, Column<"kind", u8>, Column<"addr", u64>,
                            Column<"value", u64>, Column<"operand", u64>, Column<"ssp_before", u64>,
                            Column<"ssp_after", u64>, Column<"fault", u8>>;

using FlowTable =
    FixedTable<Column<"seq", u64>, Column<"tid", u32>, Column<"mm", u32>, Column<"block", u32>>;

using InsnTable = FixedTable<Column<"seq", u64>, Column<"tid", u32>, Column<"mm", u32>,
                             Column<"pc", u64>, Column<"word", u32>, Column<"rd", u8>,
                             Column<"rd_value", u64>, Column<"mem_addr", u64>,
                             Column<"mem_value", u64>, Column<"mem_size", u8>, Column<"ssp", u64>>;

// The loop checks `full` before it enters a block that may be new. The recorder adds the column
// `module`, which only the kernel model knows.
struct CodeTable : GrowingTable<Column<"seq", u64>, Column<"tid", u32>, Column<"mm", u32>,
                                Column<"block", u32>, Column<"pc", u64>, Column<"length", u32>,
                                Column<"bytes_offset", i32>, Column<"bytes", u8>> {
    static constexpr std::size_t byte_limit = std::size_t{1} << 26;

    CodeTable() { column<"bytes_offset">() = {0}; }
    u64 rows() const { return column<"seq">().size(); }
    bool full() const { return column<"bytes">().size() > byte_limit; }
};

struct Tables {
    CfiTable cfi;
    FlowTable flow;
    InsnTable insn;
    CodeTable code;

    // Calls f(name, table, the Trace bit that selects it) for each table of fixed capacity.
    template <class F>
    void each_fixed(F&& f) {
        f("cfi", cfi, trace_cfi);
        f("flow", flow, trace_flow);
        f("insn", insn, trace_insn);
    }
    // The same for every table.
    template <class F>
    void each(F&& f) {
        each_fixed(f);
        f("code", code, trace_flow);
    }
};

// Block ids in order of first execution, by (frame lineage, pc, bytes): text that is dropped and
// decoded again unchanged keeps its ids.
using FlowIds = std::unordered_map<std::string, u32>;

}  // namespace core
