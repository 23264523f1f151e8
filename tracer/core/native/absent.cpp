// On other hosts than x86-64 there is no native code.
#include "engine.hpp"

namespace core::native {

CodeMemory::~CodeMemory() = default;

std::unique_ptr<Engine> Engine::create(std::size_t, std::string& obstacle) {
    obstacle = "native code is made for x86-64 only";
    return nullptr;
}

bool Engine::translate(const Hart&, Block&, u64, unsigned) { return false; }

void Engine::run(Visit&, Block&, u64) {}

void Engine::clear() {}

}  // namespace core::native
