// Reading torch tensors without linking to torch: by DLPack's table of C functions where torch has one (a few nanoseconds a
// tensor), else by the tensor's Python attributes.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>

#include "slot.h"

namespace dwf {

namespace nb = nanobind;

// Where a tensor lies in memory. Valid as long as the tensor is.
struct View {
  static constexpr int kMaxDims = 16;

  void* data = nullptr;
  Type type = Type::f32;
  int ndim = 0;
  std::size_t size = 1;
  const std::int64_t* shape = nullptr;
  const std::int64_t* strides = nullptr;  // null if contiguous

  View() = default;
  View(const View&) = delete;  // shape and strides may point to what follows
  View& operator=(const View&) = delete;

  std::int64_t own_shape[kMaxDims];
  std::int64_t own_strides[kMaxDims];
};

// Whether the elements fill a stretch of memory without gaps, in whatever order.
bool is_dense(const View& view);

// Whether equal indices stand at equal places.
bool same_layout(const View& left, const View& right);

class Reader {
 public:
  // types: the tensor types whose memory holds what their values are (no subclass that only looks like a tensor).
  // dtypes: torch's float32, bfloat16 and float16. strided: torch.strided. exchange: DLPack's table, or None.
  Reader(nb::tuple types, nb::tuple dtypes, nb::object strided, nb::object exchange);

  // Fills a view, or returns false if this is no plain strided CPU tensor of a known dtype.
  bool read(PyObject* tensor, View& view) const;

 private:
  bool read_exchange(PyObject* tensor, View& view) const;
  bool read_attributes(PyObject* tensor, View& view) const;

  nb::tuple types_, dtypes_;
  nb::object strided_;
  int (*exchange_)(void* tensor, void* out) = nullptr;
};

}  // namespace dwf
