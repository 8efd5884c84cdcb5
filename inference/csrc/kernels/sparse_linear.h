// A sparse matrix times features by lanes.

#pragma once

#include <cstddef>
#include <cstdint>

#include "activation.h"
#include "instruction_set.h"
#include "layout.h"

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

// A block of rows in a panel of columns.
struct Piece {
  std::uint32_t end;        // of its buckets, which begin where those of the piece before end
  std::uint32_t row, rows;  // of the block
  bool first, last;         // whether it is its rows' first or last; those have every row, others the rows that have terms there
};

// A matrix, cut into blocks of rows whose sums stay in a cache until they are done, and where it pays into panels of
// columns whose inputs stay in the first cache while a block's rows pass over them.
struct Panels {
  std::size_t size;
  const Piece* pieces;           // a block of rows, panel by panel, and then the next
  const Bucket* buckets;
  const std::uint32_t* outputs;  // the rows of all buckets, counted from their block's first
  const Term* terms;             // of all rows of all buckets
  const float* bias;             // of the rows of all first pieces
};

DWF_FOR_EACH_SET(
    // `lanes`: one of kTileLanes above 1. Where `rows.to` is not null, the output goes there, and `to` is room for a block.
    void sparse_linear(const Panels& panels, const float* from, std::size_t lanes, Activation activation, float* to,
                       const Rows& rows);)

}  // namespace dwf
