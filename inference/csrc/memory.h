// Memory aligned to cache lines.

#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

namespace dwf {

constexpr std::size_t kAlignment = 64;

template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U>&) {}
  T* allocate(std::size_t size) {
    if (size > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{kAlignment}));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, std::align_val_t{kAlignment}); }
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
