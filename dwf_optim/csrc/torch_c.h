// Torch's own description of a tensor, by the C functions that it promises to keep (aoti_torch/c/shim.h): ten times as fast
// as Python attributes. They are found at run time, so that the extension need not be linked to torch.
//
// They take a pointer to a C++ tensor, which a Python tensor holds. Where, is found by looking for its known address.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "view.h"

namespace dwf {

namespace nb = nanobind;

class TorchC {
 public:
  // functions: addresses of aoti_torch_get_data_ptr, _dim, _sizes, _strides, _dtype, _device_type and _layout, or nothing.
  // constants: what they say of float32, bfloat16, float16, of the CPU, and of strided tensors.
  // example: a tensor. implementation, storage: the addresses of torch's objects behind it.
  TorchC(const std::vector<std::uintptr_t>& functions, const std::vector<std::int32_t>& constants, nb::handle example,
         std::uintptr_t implementation, std::uintptr_t storage);

  // Whether all has been found.
  bool works() const { return strides_ != nullptr && implementation_at_ != 0 && storage_at_ != 0; }

  // Fills a view, or returns false if this is no strided CPU tensor of a known dtype. All of this only for tensors of the
  // example's kind of object, and if it works.
  bool read(PyObject* tensor, View& view) const;

  // Asks for the memory that `read` looks at, one after the other for several tensors that are near themselves.
  void fetch_implementation(PyObject* tensor) const;
  void fetch_storage(PyObject* tensor) const;

 private:
  using Error = std::int32_t;
  Error (*data_ptr_)(const void*, void**) = nullptr;
  Error (*dim_)(const void*, std::int64_t*) = nullptr;
  Error (*sizes_)(const void*, std::int64_t**) = nullptr;
  Error (*strides_)(const void*, std::int64_t**) = nullptr;
  Error (*dtype_)(const void*, std::int32_t*) = nullptr;
  Error (*device_type_)(const void*, std::int32_t*) = nullptr;
  Error (*layout_)(const void*, std::int32_t*) = nullptr;
  std::int32_t float32_ = 0, bfloat16_ = 0, float16_ = 0, cpu_ = 0, strided_ = 0;
  std::size_t implementation_at_ = 0, storage_at_ = 0;  // 0: unknown
};

}  // namespace dwf
