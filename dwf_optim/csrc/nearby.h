// Asking for memory before it is needed.
//
// With thousands of small weights a step would spend most of its time waiting for memory: to read a tensor is to follow
// three pointers, and each is far away. Asked for in groups, what they point to arrives at the same time.

#pragma once

#include <cstddef>
#include <cstdint>

namespace dwf {

inline void fetch(const void* address) {
  __builtin_prefetch(address);
  __asm__ __volatile__("" : : "r"(address));  // GCC drops calls of functions that do no more than that
}

inline void fetch(const void* address, std::size_t size) {
  constexpr std::size_t kLine = 64;  // of cache, or a part of one
  const auto begin = reinterpret_cast<std::uintptr_t>(address);  // which may be null
  for (std::size_t offset = 0; offset < size; offset += kLine) fetch(reinterpret_cast<const void*>(begin + offset));
  fetch(reinterpret_cast<const void*>(begin + size - 1));  // where it does not begin with a line
}

}  // namespace dwf
