// Reads what inference/onnx/recording.py writes. Nothing that it reads is trusted.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "onnxruntime/value.h"

namespace dwf {

class Reader {
 public:
  Reader(const void* bytes, std::size_t size)
      : next_(static_cast<const unsigned char*>(bytes)), end_(next_ + size) {}

  // All throw std::invalid_argument where the bytes end too early, or are no such thing.
  std::uint8_t byte();
  std::uint32_t number();
  std::string text();
  Value value() { return value(0); }
  // A count of things that take at least `each` bytes.
  std::size_t count(std::size_t each);
  void finish() const;

 private:
  Value value(int depth);
  const unsigned char* take(std::size_t size);
  template <class Stored, class Made>
  void read_array(std::vector<Made>& made, std::vector<std::int64_t>& shape);

  const unsigned char* next_;
  const unsigned char* const end_;
};

}  // namespace dwf
