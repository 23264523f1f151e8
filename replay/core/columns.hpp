// The columns of a record batch, through Arrow's C data interface. Their values come from a file
// that anybody may have written: nothing here relies on them.
#pragma once

#include <nanobind/nanobind.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace fold {

namespace nb = nanobind;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// https://arrow.apache.org/docs/format/CDataInterface.html
struct ArrowSchema {
    const char* format;
    const char* name;
    const char* metadata;
    i64 flags;
    i64 n_children;
    ArrowSchema** children;
    ArrowSchema* dictionary;
    void (*release)(ArrowSchema*);
    void* private_data;
};

struct ArrowArray {
    i64 length;
    i64 null_count;
    i64 offset;
    i64 n_buffers;
    i64 n_children;
    const void** buffers;
    ArrowArray** children;
    ArrowArray* dictionary;
    void (*release)(ArrowArray*);
    void* private_data;
};

template <class T>
constexpr char format_of() {
    return sizeof(T) == 8 ? 'L' : sizeof(T) == 4 ? 'I' : 'C';
}

// A column of unsigned integers.
template <class T>
struct Column {
    const T* values = nullptr;
    const u8* valid = nullptr;  // a bit a row; nullptr: no row is null
    i64 offset = 0;

    bool has(i64 row) const {
        i64 bit = offset + row;
        return !valid || (valid[bit >> 3] >> (bit & 7) & 1);
    }
    T operator[](i64 row) const { return values[offset + row]; }
};

// A column of words of a vocabulary, each as its index in a list of names.
struct Kinds {
    Column<u8> index;
    std::array<u8, 256> codes;

    u8 operator[](i64 row) const { return index.has(row) ? codes[index[row]] : other; }
    static constexpr u8 other = 255;  // none of the names
};

class Batch {
  public:
    explicit Batch(nb::handle batch) {
        nb::tuple both = nb::cast<nb::tuple>(batch.attr("__arrow_c_array__")());
        // the capsules release what they hold
        schema_capsule_ = both[0];
        array_capsule_ = both[1];
        schema_ =
            static_cast<ArrowSchema*>(PyCapsule_GetPointer(schema_capsule_.ptr(), "arrow_schema"));
        array_ =
            static_cast<ArrowArray*>(PyCapsule_GetPointer(array_capsule_.ptr(), "arrow_array"));
        if (!schema_ || !array_) throw nb::python_error();
        if (schema_->n_children != array_->n_children || array_->offset != 0)
            throw std::invalid_argument("not a record batch");
    }

    i64 rows() const { return array_->length; }

    template <class T>
    Column<T> column(std::string_view name) const {
        auto [schema, array] = find(name);
        if (schema->dictionary || schema->format[0] != format_of<T>() || schema->format[1])
            throw std::invalid_argument(std::string(name) + " has another type");
        return {static_cast<const T*>(array->buffers[1]), static_cast<const u8*>(array->buffers[0]),
                array->offset};
    }

    Kinds kinds(std::string_view name, std::span<const std::string_view> names) const {
        auto [schema, array] = find(name);
        // an index is one byte, read as unsigned: a negative one is past the end of the names
        if (!schema->dictionary || std::string_view(schema->format) != "c" ||
            std::string_view(schema->dictionary->format) != "u")
            throw std::invalid_argument(std::string(name) + " is not a column of words");
        Kinds kinds{{static_cast<const u8*>(array->buffers[1]),
                     static_cast<const u8*>(array->buffers[0]), array->offset},
                    {}};
        kinds.codes.fill(Kinds::other);
        const ArrowArray& words = *array->dictionary;
        auto* ends = static_cast<const std::int32_t*>(words.buffers[1]) + words.offset;
        auto* text = static_cast<const char*>(words.buffers[2]);
        for (i64 i = 0; i < std::min<i64>(words.length, 128); i++) {
            std::string_view word(text + ends[i], ends[i + 1] - ends[i]);
            for (std::size_t code = 0; code < names.size(); code++)
                if (names[code] == word) kinds.codes[i] = static_cast<u8>(code);
        }
        return kinds;
    }

  private:
    std::pair<const ArrowSchema*, const ArrowArray*> find(std::string_view name) const {
        for (i64 i = 0; i < schema_->n_children; i++)
            if (schema_->children[i]->name == name)
                return {schema_->children[i], array_->children[i]};
        throw std::invalid_argument("no column " + std::string(name));
    }

    nb::object schema_capsule_, array_capsule_;
    const ArrowSchema* schema_;
    const ArrowArray* array_;
};

// A column that is made: values, and a byte for each that tells whether it is one.
template <class T>
class Made {
  public:
    void add(T value) {
        values_.push_back(value);
        known_.push_back(1);
    }
    void add(T value, bool known) {
        values_.push_back(known ? value : T{});
        known_.push_back(known);
    }
    T& back() { return values_.back(); }
    T& operator[](std::size_t at) { return values_[at]; }
    std::size_t size() const { return values_.size(); }

    // As two bytes objects; afterwards it is empty.
    nb::tuple take() {
        nb::tuple told = nb::make_tuple(
            nb::bytes(reinterpret_cast<const char*>(values_.data()), values_.size() * sizeof(T)),
            nb::bytes(reinterpret_cast<const char*>(known_.data()), known_.size()));
        values_.clear();
        known_.clear();
        return told;
    }

  private:
    std::vector<T> values_;
    std::vector<u8> known_;
};

// Numbers from Python, as the bytes of a u64 each.
inline std::vector<u64> numbers(nb::bytes from) {
    std::vector<u64> found(from.size() / sizeof(u64));
    if (!found.empty()) std::memcpy(found.data(), from.c_str(), found.size() * sizeof(u64));
    return found;
}

// How many of ascending times are less than a seq; quickest if it is asked for ascending seqs.
class Clock {
  public:
    explicit Clock(std::vector<u64> times) : times_(std::move(times)) {}

    u32 before(u64 seq) {
        bool behind = at_ < times_.size() && times_[at_] < seq;
        if (behind || (at_ > 0 && times_[at_ - 1] >= seq))
            at_ = std::lower_bound(times_.begin(), times_.end(), seq) - times_.begin();
        return static_cast<u32>(at_);
    }

  private:
    std::vector<u64> times_;
    std::size_t at_ = 0;
};

}  // namespace fold
