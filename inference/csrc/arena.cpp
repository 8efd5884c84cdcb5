#include "arena.h"

namespace dwf {

ArenaPool::~ArenaPool() {
  while (take() != nullptr) {
  }
}

std::unique_ptr<Arena> ArenaPool::take() {
  for (std::atomic<Arena*>& place : kept_) {
    if (place.load(std::memory_order_relaxed) == nullptr) continue;
    if (Arena* arena = place.exchange(nullptr, std::memory_order_acquire)) return std::unique_ptr<Arena>(arena);
  }
  return nullptr;
}

void ArenaPool::put(std::unique_ptr<Arena> arena) {
  for (std::atomic<Arena*>& place : kept_) {
    Arena* expected = nullptr;
    if (place.compare_exchange_strong(expected, arena.get(), std::memory_order_release, std::memory_order_relaxed)) {
      arena.release();
      return;
    }
  }
}

}  // namespace dwf
