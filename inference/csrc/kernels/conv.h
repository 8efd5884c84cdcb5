// Convolutions: sums of shifted images, by output channel and position.

#pragma once

#include <cstddef>
#include <cstdint>

#include "instruction_set.h"

namespace dwf {

// Positions are runs of this many floats, or of a multiple of it: a cache line.
constexpr std::size_t kRun = 16;

// One weight, beside where its input is.
struct Tap {
  std::uint32_t offset;  // in Field::unit
  float weight;
};

// Consecutive output channels, and what reaches them from some of the input channels: as many as stay in the cache while
// the output channels take their turns.
struct Panel {
  std::size_t first, channels;  // of the output
  bool opens, closes;           // the first of the panels for its output channels, the last
};

struct SparsePanel : Panel {
  const std::uint32_t* begins;  // channels + 1, into taps
  const Tap* taps;
};

struct DensePanel : Panel {
  std::size_t size;              // inputs
  const std::uint32_t* offsets;  // of each input, in Field::unit
  const float* weights;          // by blocks of kDenseChannels, the rest by blocks of one: [input][channel of the block]
};

constexpr std::size_t kDenseChannels = 4;

// Where outputs lie and the inputs below them, in floats.
struct Field {
  std::size_t rows, columns;               // of the output
  std::size_t run;                         // floats of a position, a multiple of kRun
  std::size_t unit;                        // between inputs whose offsets differ by one
  std::size_t from_row, from_column;       // between the inputs of neighbouring outputs
  std::size_t to_channel, to_row;          // between outputs; columns are `run` apart
  std::size_t added_channel, added_row;    // between what is added to them
};

// What goes around the sums: bias and `added` (neither is needed) before, limits after.
struct Ends {
  const float* bias;
  const float* added;
  float low, high;
};

DWF_FOR_EACH_SET(
    // to = min(max(bias + added + sum of weight * from, low), high), with NaN kept. All panels of an output channel are
    // given in one call, or in several with `added` for the one that opens and the same `to`.
    void sparse_conv(const SparsePanel* panels, std::size_t count, const Field& field, const float* from,
                     const Ends& ends, float* to);
    void dense_conv(const DensePanel* panels, std::size_t count, const Field& field, const float* from,
                    const Ends& ends, float* to);)

}  // namespace dwf
