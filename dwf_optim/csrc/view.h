// Where a tensor lies in memory.

#pragma once

#include <cstddef>
#include <cstdint>

#include "slot.h"

namespace dwf {

// Valid as long as the tensor is.
struct View {
  static constexpr int kMaxDims = 16;

  void* data = nullptr;
  Type type = Type::f32;
  int ndim = 0;
  std::size_t size = 1;
  const std::int64_t* shape = nullptr;
  const std::int64_t* strides = nullptr;

  View() = default;
  View(const View&) = delete;  // shape and strides may point to what follows
  View& operator=(const View&) = delete;

  std::int64_t own_shape[kMaxDims];
  std::int64_t own_strides[kMaxDims];
};

// Whether the elements fill a stretch of memory without gaps, in whatever order.
bool is_dense(const View& view);

bool same_shape(const View& left, const View& right);

// Whether equal indices stand at equal places.
bool same_layout(const View& left, const View& right);

}  // namespace dwf
