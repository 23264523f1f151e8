// Which rows of cfi are plain: all that the manual says of such an instruction holds, and it
// retired. Rules judge every other row by its own.
#pragma once

#include <cstddef>

#include "columns.hpp"

namespace fold {

constexpr std::string_view CFI_KINDS[] = {"sspush", "sspopchk", "lpad", "ssamoswap"};
constexpr u8 PUSH = 0, POP = 1, PAD = 2, SWAP = 3;

enum class Where { below_ssp, at_ssp, nowhere };  // cfi.addr
enum class Same { nothing, word, label };         // what cfi.value agrees with

// One row a kind that may be plain, in the order of CFI_KINDS.
struct Plain {
    i64 moves;  // ssp, by so many bytes
    Where where;
    Same same;
};
constexpr Plain PLAIN[] = {
    {-8, Where::below_ssp, Same::nothing},
    {8, Where::at_ssp, Same::word},
    {0, Where::nowhere, Same::label},
};
constexpr u64 NO_PAD = 0xffffffff;

struct Cfi {
    explicit Cfi(const Batch& batch)
        : rows(batch.rows()), seq(batch.column<u64>("seq")), tid(batch.column<u32>("tid")),
          mm(batch.column<u32>("mm")), pc(batch.column<u64>("pc")),
          kind(batch.kinds("kind", CFI_KINDS)), addr(batch.column<u64>("addr")),
          value(batch.column<u64>("value")), operand(batch.column<u64>("operand")),
          ssp_before(batch.column<u64>("ssp_before")), ssp_after(batch.column<u64>("ssp_after")),
          fault(batch.column<u8>("fault")) {}

    bool plain(i64 i) const {
        u8 code = kind[i];
        if (code >= std::size(PLAIN) || fault.has(i) || !value.has(i)) return false;
        if (!tid.has(i) || !mm.has(i) || !ssp_before.has(i) || !ssp_after.has(i)) return false;
        const Plain& law = PLAIN[code];
        u64 before = ssp_before[i], after = before + static_cast<u64>(law.moves);
        if (before % 8 || ssp_after[i] != after || !at(law.where, i, before)) return false;
        return agrees(law.same, i);
    }

    i64 rows;
    Column<u64> seq;
    Column<u32> tid, mm;
    Column<u64> pc;
    Kinds kind;
    Column<u64> addr, value, operand, ssp_before, ssp_after;
    Column<u8> fault;

  private:
    bool at(Where where, i64 i, u64 ssp) const {
        if (where == Where::nowhere) return !addr.has(i);
        return addr.has(i) && addr[i] == (where == Where::at_ssp ? ssp : ssp - 8);
    }

    bool agrees(Same same, i64 i) const {
        if (same == Same::nothing) return true;
        if (!operand.has(i)) return false;
        if (same == Same::word) return value[i] == operand[i];
        return value[i] != NO_PAD && (value[i] == 0 || value[i] == operand[i]) && pc.has(i) &&
               pc[i] % 4 == 0;
    }
};

}  // namespace fold
