// Memory aligned to cache lines.

#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dwf {

constexpr std::size_t kAlignment = 64;
// Of what is this large, pages are asked to be too: kernels read inputs in no order, and small pages have to be looked up.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U>&) {}
  T* allocate(std::size_t size) {
    if (size > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    void* const memory = ::operator new(size * sizeof(T), alignment(size));
#if defined(__linux__)
    if (size * sizeof(T) >= kHugePage) madvise(memory, size * sizeof(T), MADV_HUGEPAGE);  // a wish: it may fail
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t size) { ::operator delete(memory, alignment(size)); }
  static std::align_val_t alignment(std::size_t size) {
    return std::align_val_t{size * sizeof(T) >= kHugePage ? kHugePage : kAlignment};
  }
  template <class U>
  bool operator==(const Aligned<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const Aligned<U>&) const {
    return false;
  }
};

template <class T>
using AlignedVector = std::vector<T, Aligned<T>>;

}  // namespace dwf
