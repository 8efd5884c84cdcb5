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

// Rows one after the other that have the same number of terms.
struct Bucket {
  std::uint32_t rows, terms;
};

// A matrix, cut into panels of columns whose inputs stay in the first cache while all rows pass over them. The first
// panel and the last have every row, the others those that have terms there.
struct Panels {
  std::size_t size;              // at least 1
  const std::uint32_t* begins;   // size + 1, into buckets
  const Bucket* buckets;
  const std::uint32_t* outputs;  // positions of the rows of all buckets
  const Term* terms;             // of all rows of all buckets
  const float* bias;             // of the rows of the first panel
};

DWF_FOR_EACH_SET(
    // `lanes`: one of kTileLanes above 1.
    void sparse_linear(const Panels& panels, const float* from, std::size_t lanes, Activation activation, float* to);)

}  // namespace dwf
