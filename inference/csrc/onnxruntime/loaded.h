// A program from a file, and the shapes that it is called with.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "program.h"

namespace dwf {

struct Loaded {
  std::shared_ptr<const Program> program;
  // Without the batch. The first few dimensions may count as more of it: `rows` samples of the program an example.
  std::vector<std::vector<std::int64_t>> inputs, outputs;
  std::size_t rows = 1;
};

// Throws std::invalid_argument if the bytes are not what inference/onnx/recording.py writes, whatever they are.
Loaded load(const void* bytes, std::size_t size);

}  // namespace dwf
