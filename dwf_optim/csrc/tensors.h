// Reading torch tensors without linking to torch: by its C functions where they are found, else by the tensor's Python
// attributes.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

#include "torch_c.h"
#include "view.h"

namespace dwf {

namespace nb = nanobind;

class Reader {
 public:
  // types: the tensor types whose memory holds what their values are (no subclass that only looks like a tensor).
  // dtypes: torch's float32, bfloat16 and float16. strided: torch.strided. torch: the C functions. examples: tensors of
  // these types, on which they are tried out.
  Reader(nb::tuple types, nb::tuple dtypes, nb::object strided, const TorchC& torch, nb::list examples);

  // Whether tensors are read by the C functions.
  bool by_functions() const { return by_functions_; }

  // Fills a view, or returns false if this is no plain strided CPU tensor of a known dtype.
  bool read(PyObject* tensor, View& view) const;

  // Asks for the memory that `read` will look at. Each of these may be anything else than a tensor.
  void fetch(PyObject* const* tensors, std::size_t count) const;

 private:
  bool knows(PyObject* tensor) const;
  bool agrees(PyObject* example) const;
  bool read_attributes(PyObject* tensor, View& view) const;

  nb::tuple types_, dtypes_;
  nb::object strided_;
  TorchC torch_;
  bool by_functions_;
};

}  // namespace dwf
