// The largest number, or the mean, of each window of an image.

#pragma once

#include <cstddef>

#include "instruction_set.h"

namespace dwf {

// What of one dimension is in an output's window: `count` inputs from `first` on.
struct Span {
  std::size_t first, count;
  float divisor;  // of a mean: of rows times that of columns
};

// Distances in floats.
struct Pooling {
  bool largest;
  std::size_t channels, rows, columns;  // of the output
  std::size_t width;                    // of the input
  std::size_t row_step, column_step;    // between inputs of a window, in inputs
  std::size_t from_channel, from_row;
  std::size_t to_channel, to_row;
};

// As many outputs fill the widest registers.
constexpr std::size_t kManyColumns = 16;

DWF_FOR_EACH_SET(
    // Tiles: positions are `lanes` floats. NaN in a window comes out; the largest of no number is minus infinity.
    void pool_tile(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, std::size_t lanes,
                   float* to);
    // A lone image. `scratch` has place for the width of the input.
    void pool_single(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, float* scratch,
                     float* to);
    // A lone image without border, whose windows are 2 by 2 and side by side; sums are multiplied with `scale`. Outputs
    // are a power of two to a row, or kManyColumns and more.
    void pool_pairs(const Pooling& pooling, float scale, const float* from, float* to);)

}  // namespace dwf
