// Memory for code, mapped twice: where it is written it can't be executed, and the other way round.
#pragma once

#include <string>

#include "../types.hpp"

namespace core::native {

class CodeMemory {
  public:
    // Pages get memory when they are first used.
    explicit CodeMemory(std::size_t size) : size_(size) {}
    ~CodeMemory();
    CodeMemory(const CodeMemory&) = delete;
    CodeMemory& operator=(const CodeMemory&) = delete;

    // The empty string, or why the system does not allow it.
    std::string map();

    u8* begin() const { return writable_; }
    u8* end() const { return writable_ + size_; }
    const u8* executable(const u8* writable) const { return writable + distance_; }
    u8* writable(const u8* executable) const { return const_cast<u8*>(executable - distance_); }

  private:
    u8* map_file(int file, int protection) const;

    const std::size_t size_;
    u8* writable_ = nullptr;
    std::ptrdiff_t distance_ = 0;  // from the writable mapping to the executable one
};

}  // namespace core::native
