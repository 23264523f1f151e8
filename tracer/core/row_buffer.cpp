#include "row_buffer.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace nb = nanobind;

namespace core {

RowBuffer::RowBuffer(const std::vector<Described>& columns) {
    static constexpr const char* bases[] = {"u8",   "u32",  "u64", "i32",  "i64",
                                            "bool", "kind", "str", "bytes"};
    for (const auto& [name, type, words] : columns) {
        const bool nullable = type.ends_with('?');
        const std::string base = type.substr(0, type.size() - nullable);
        const auto found = std::find(std::begin(bases), std::end(bases), base);
        if (found == std::end(bases)) throw nb::value_error(("no such type: " + type).c_str());
        Column column{name, Base(found - bases), nullable, nb::dict(), {}, {}, {0}};
        for (std::size_t i = 0; i < words.size(); ++i) column.numbers[words[i]] = i;
        columns_.push_back(std::move(column));
    }
}

void RowBuffer::add(nb::tuple values) {
    if (values.size() != columns_.size()) throw nb::value_error("a row has a value a column");
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        PyObject* value = PyTuple_GET_ITEM(values.ptr(), Py_ssize_t(i));
        if (columns_[i].add(value, rows_)) continue;
        PyErr_Clear();
        for (Column& column : columns_) column.cut(rows_);
        throw nb::value_error(
            (columns_[i].name + ": " + nb::repr(nb::handle(value)).c_str() + " does not fit")
                .c_str());
    }
    ++rows_;
    last_ = std::max<u64>(last_, PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(values.ptr(), 0)));
}

nb::list RowBuffer::drain() {
    const auto bytes = [](const auto& data) {
        return nb::bytes(reinterpret_cast<const char*>(data.data()), data.size() * sizeof data[0]);
    };
    nb::list drained;
    for (Column& column : columns_) {
        const bool long_ = column.base == Base::str || column.base == Base::bytes;
        const bool nulls = column.has_nulls(rows_);
        drained.append(nb::make_tuple(nulls ? nb::object(bytes(column.valid)) : nb::none(),
                                      bytes(column.values),
                                      long_ ? nb::object(bytes(column.offsets)) : nb::none()));
        column.cut(0);
    }
    rows_ = 0;
    return drained;
}

bool RowBuffer::Column::add(PyObject* value, u64 row) {
    const bool present = value != Py_None;
    if (row % 8 == 0) valid.push_back(0);
    valid.back() |= u8(present << row % 8);
    if (present) return put(value);
    if (!nullable) return false;
    if (base == Base::str || base == Base::bytes)
        offsets.push_back(i32(values.size()));
    else
        values.resize(values.size() + width());
    return true;
}

// Back to so many rows, after one that did not fit.
void RowBuffer::Column::cut(u64 rows) {
    if (base == Base::str || base == Base::bytes) {
        if (offsets.size() > rows + 1) offsets.resize(rows + 1);
        values.resize(std::size_t(offsets.back()));
    } else if (values.size() > rows * width()) {
        values.resize(rows * width());
    }
    if (valid.size() > (rows + 7) / 8) valid.resize((rows + 7) / 8);
    if (rows % 8) valid.back() &= u8((1 << rows % 8) - 1);
}

bool RowBuffer::Column::has_nulls(u64 rows) const {
    u64 present = 0;
    for (u8 bits : valid) present += u64(std::popcount(bits));
    return present < rows;
}

std::size_t RowBuffer::Column::width() const {
    switch (base) {
        case Base::u32:
        case Base::i32: return 4;
        case Base::u64:
        case Base::i64: return 8;
        default: return 1;
    }
}

bool RowBuffer::Column::put(PyObject* value) {
    switch (base) {
        case Base::u8: return put_integer<u8>(value);
        case Base::u32: return put_integer<u32>(value);
        case Base::u64: return put_integer<u64>(value);
        case Base::i32: return put_integer<i32>(value);
        case Base::i64: return put_integer<i64>(value);
        case Base::boolean: append<u8>(value == Py_True); return PyBool_Check(value);
        case Base::kind: {
            PyObject* number = PyDict_GetItemWithError(numbers.ptr(), value);
            if (!number) return false;
            append(u8(PyLong_AsLong(number)));
            return true;
        }
        case Base::str: {
            Py_ssize_t size = 0;
            const char* text =
                PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : nullptr;
            return text && append_bytes(text, size);
        }
        default: {
            Py_buffer view;
            if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)) return false;
            const bool fits = append_bytes(view.buf, view.len);
            PyBuffer_Release(&view);
            return fits;
        }
    }
}

template <class T>
bool RowBuffer::Column::put_integer(PyObject* value) {
    using Limits = std::numeric_limits<T>;
    if (!PyLong_Check(value)) return false;
    if constexpr (Limits::is_signed) {
        const long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred()) return false;
        if (number < Limits::min() || number > Limits::max()) return false;
        append(T(number));
    } else {
        const unsigned long long number = PyLong_AsUnsignedLongLong(value);
        if (number == ~0ull && PyErr_Occurred()) return false;
        if (number > Limits::max()) return false;
        append(T(number));
    }
    return true;
}

template <class T>
void RowBuffer::Column::append(T value) {
    const auto* bytes = reinterpret_cast<const u8*>(&value);
    values.insert(values.end(), bytes, bytes + sizeof value);
}

bool RowBuffer::Column::append_bytes(const void* data, Py_ssize_t size) {
    constexpr auto most = std::size_t{std::numeric_limits<i32>::max()};
    if (values.size() + std::size_t(size) > most) return false;
    const auto* bytes = static_cast<const u8*>(data);
    values.insert(values.end(), bytes, bytes + size);
    offsets.push_back(i32(values.size()));
    return true;
}

}  // namespace core
