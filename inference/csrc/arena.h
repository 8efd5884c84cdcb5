// The memory of one tile on its way through a graph, and a pool of it: as much as there are threads at once.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

#include "memory.h"

namespace dwf {

struct Arena {
  // From a part of a huge page on, whole ones: kernels read inputs in no order, and more small pages than the processor
  // keeps the places of would be looked up again and again.
  static std::size_t in_pages(std::size_t floats) {
    constexpr std::size_t page = kHugePage / sizeof(float);
    return floats < page / 8 ? floats : (floats + page - 1) / page * page;
  }
  // Zeros, which is what the borders of values stay.
  Arena(std::size_t floats, std::size_t values) : memory(in_pages(floats)), places(values) {}
  AlignedVector<float> memory;
  std::vector<float*> places;  // where each value begins
};

// Without locks, so that a process forked in the middle of a call has nothing to wait for.
class ArenaPool {
 public:
  ArenaPool() = default;
  ~ArenaPool();
  ArenaPool(const ArenaPool&) = delete;
  ArenaPool& operator=(const ArenaPool&) = delete;

  // An arena that was put back; null if there is none.
  std::unique_ptr<Arena> take();
  void put(std::unique_ptr<Arena> arena);

 private:
  // More threads than this at once on one program allocate.
  std::array<std::atomic<Arena*>, 64> kept_{};
};

}  // namespace dwf
