// How a value lies in memory.

#pragma once

#include <cstddef>

namespace dwf {

// Samples that go through a graph side by side. With more than one, each of a value's elements is a run of that many
// floats, aligned to 64 bytes; a lone sample needs no transposing, and is read and written where the caller keeps it.
constexpr std::size_t kTileLanes[] = {1, 16, 32, 64};
constexpr std::size_t kMostLanes = 64;

// An image [channels][height][width] inside a border of zeros, which is what a convolution pads with. What is no image has
// height and width 1. A *feature* counts elements in the order of torch's flatten, without the border; a *position*
// counts them as they are stored, with it. Element f of lane l is at value[position(f) * lanes + l].
struct Layout {
  std::size_t channels = 1, height = 1, width = 1;
  std::size_t border_rows = 0, border_columns = 0;  // on each side

  std::size_t features() const { return channels * height * width; }
  std::size_t stored_height() const { return height + 2 * border_rows; }
  std::size_t stored_width() const { return width + 2 * border_columns; }
  std::size_t positions() const { return channels * stored_height() * stored_width(); }
  // Whether positions are features.
  bool dense() const { return border_rows == 0 && border_columns == 0; }
  std::size_t position(std::size_t channel, std::size_t row, std::size_t column) const {
    return (channel * stored_height() + border_rows + row) * stored_width() + border_columns + column;
  }
  std::size_t position(std::size_t feature) const {
    const std::size_t column = feature % width, row = feature / width % height, channel = feature / width / height;
    return position(channel, row, column);
  }
  bool operator==(const Layout& other) const {
    return channels == other.channels && height == other.height && width == other.width &&
           border_rows == other.border_rows && border_columns == other.border_columns;
  }
};

// Rows of samples, as callers keep them.
struct Rows {
  float* to = nullptr;
  std::size_t stride = 0, samples = 0;
};

}  // namespace dwf
