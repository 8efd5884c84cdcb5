// A dense matrix times features by lanes, for layers with too few zeros.

#pragma once

#include <cstddef>

#include "activation.h"
#include "instruction_set.h"

namespace dwf {

// Rows that share each load of an input.
constexpr std::size_t kRowBlock = 6;

struct Blocks {
  std::size_t rows, columns;
  const float* weights;  // [blocks of rows][columns][kRowBlock], filled up with zeros
  const float* bias;     // filled up likewise
};

DWF_FOR_EACH_SET(
    // `lanes`: one of kTileLanes above 1.
    void dense_linear(const Blocks& blocks, const float* from, std::size_t lanes, Activation activation, float* to);
    // One sample; weights are [rows][columns].
    void dense_vector(const float* weights, const float* bias, std::size_t rows, std::size_t columns, const float* from,
                      bool relu, float* to);)

}  // namespace dwf
