// What of DLPack 1.x (github.com/dmlc/dlpack, dlpack.h) reading a tensor takes; it promises these structures to stay as
// they are.

#pragma once

#include <cstdint>

namespace dwf {

struct DLDevice {
  std::int32_t type, id;
};

struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};

struct DLPackExchangeAPI {
  struct {
    std::uint32_t major, minor;
  } version;
  void* previous;
  void *allocate, *from_tensor, *to_tensor;
  int (*describe)(void* tensor, void* out);
  void* current_stream;
};

constexpr std::int32_t kCpu = 1;
constexpr std::uint8_t kFloat = 2, kBfloat = 4;

}  // namespace dwf
