// Lists of any length, in registers. What is left at the end is filled up with zeros, so that the arithmetic of an element
// does not depend on its place.

#pragma once

#include <cstddef>
#include <cstring>

#include "lanes.h"

namespace dwf {
namespace DWF_ISA {

// A whole register, or its first `size` lanes.
template <bool kWhole>
DWF_INLINE Lanes take(const float* from, std::size_t size) {
  if constexpr (kWhole) return load(from);
  Lanes lanes{};
  std::memcpy(&lanes, from, size * sizeof(float));
  return lanes;
}

template <bool kWhole>
DWF_INLINE void put(float* to, Lanes lanes, std::size_t size) {
  if constexpr (kWhole) return store(to, lanes);
  std::memcpy(to, &lanes, size * sizeof(float));
}

template <bool kWhole>
struct Whole {
  static constexpr bool value = kWhole;
};

// Calls the work with Whole, a position and the number of elements there, register by register.
template <class Work>
DWF_INLINE void for_lanes(std::size_t size, const Work& work) {
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) work(Whole<true>{}, i, kLanes);
  if (i < size) work(Whole<false>{}, i, size - i);
}

}  // namespace DWF_ISA
}  // namespace dwf
