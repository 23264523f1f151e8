#include "code_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10  // Linux 6.3; earlier kernels answer EINVAL, and need no flag
#endif

namespace core::native {

u8* CodeMemory::map_file(int file, int protection) const {
    void* memory = mmap(nullptr, size_, protection, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return nullptr;
    // The pages are shared with a forked process, and each would write its own code to them.
    madvise(memory, size_, MADV_DONTFORK);
    return static_cast<u8*>(memory);
}

std::string CodeMemory::map() {
    int file = memfd_create("shstk-native", MFD_CLOEXEC | MFD_EXEC);
    if (file < 0) file = memfd_create("shstk-native", MFD_CLOEXEC);
    if (file < 0) return std::string("memfd_create: ") + std::strerror(errno);
    u8* executable = nullptr;
    if (ftruncate(file, off_t(size_)) == 0 && (writable_ = map_file(file, PROT_READ | PROT_WRITE)))
        executable = map_file(file, PROT_READ | PROT_EXEC);
    const int error = errno;
    close(file);
    if (!executable) return std::string("mapping memory for code: ") + std::strerror(error);
    distance_ = executable - writable_;
    return {};
}

CodeMemory::~CodeMemory() {
    if (distance_) munmap(writable_ + distance_, size_);
    if (writable_) munmap(writable_, size_);
}

}  // namespace core::native
