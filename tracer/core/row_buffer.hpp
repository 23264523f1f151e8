// Rows of the kernel model, which Python adds one by one, as columns in Arrow's layout.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <tuple>
#include <vector>

#include "types.hpp"

namespace core {

class RowBuffer {
  public:
    // Name, type in schemas/tables.py, and for a kind its words.
    using Described = std::tuple<std::string, std::string, nanobind::tuple>;

    explicit RowBuffer(const std::vector<Described>& columns);

    // One value for each column. Throws ValueError, without a change, if one does not fit.
    void add(nanobind::tuple values);
    u64 rows() const { return rows_; }
    u64 last() const { return last_; }
    // Per column (validity or None, values, offsets or None); the buffer is empty afterwards.
    nanobind::list drain();

  private:
    enum class Base { u8, u32, u64, i32, i64, boolean, kind, str, bytes };

    struct Column {
        std::string name;
        Base base;
        bool nullable;
        nanobind::dict numbers;  // of a kind's words
        std::vector<u8> values;
        std::vector<u8> valid;  // a bit for each row
        std::vector<i32> offsets;

        bool add(PyObject* value, u64 row);
        void cut(u64 rows);
        bool has_nulls(u64 rows) const;

      private:
        bool put(PyObject* value);
        template <class T>
        bool put_integer(PyObject* value);
        template <class T>
        void append(T value);
        bool append_bytes(const void* data, Py_ssize_t size);
        std::size_t width() const;
    };

    std::vector<Column> columns_;
    u64 rows_ = 0;
    u64 last_ = 0;  // the highest value of the first column so far
};

}  // namespace core
