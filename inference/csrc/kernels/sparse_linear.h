// A sparse matrix times features by lanes.

#pragma once

#include <cstddef>
#include <cstdint>

#include "activation.h"
#include "instruction_set.h"

namespace dwf {

// One weight, beside where its input is.
struct Term {
  std::uint32_t position;
  float weight;
};

// Rows of a matrix, each a run of terms.
struct Rows {
  std::size_t size;
  const std::uint32_t* begins;   // size + 1, into terms
  const std::uint32_t* outputs;  // the position of each row's output
  const Term* terms;
  const float* bias;  // of each row
};

DWF_FOR_EACH_SET(
    // One of kTileLanes.
    void sparse_linear(const Rows& rows, const float* from, std::size_t lanes, Activation activation, float* to);)

}  // namespace dwf
