// A convolution by itself, between rows of samples: a band of the image after the other, so that packed inputs and sums
// stay in the second cache.

#include <algorithm>
#include <cstring>

#include "kernels/transpose.h"
#include "ops/conv.h"

namespace dwf {
namespace {

constexpr std::size_t kSecondCache = std::size_t{3} << 19;
constexpr std::size_t kBandRows = 3;  // as a register block has

}  // namespace

// Rows of the output in a band; all of them if bands would not help.
std::size_t Conv::band() const {
  const std::size_t reach = window_.dilation_rows * (window_.rows - 1) + 1;
  const std::size_t one = (from_.channels * from_.stored_width() * window_.stride_rows +
                           to_.channels * to_.stored_width()) * kRun * sizeof(float);
  const std::size_t halo = from_.channels * from_.stored_width() * reach * kRun * sizeof(float);
  if (to_.height * one + halo <= kSecondCache) return to_.height;
  std::size_t rows = kSecondCache > halo ? (kSecondCache - halo) / one : 0;
  rows = std::max(rows / kBandRows * kBandRows, kBandRows);
  // A band is packed into rows of the image itself, whose borders stay as they are.
  return (rows - 1) * window_.stride_rows + reach > from_.height ? to_.height : std::min(rows, to_.height);
}

// Packs the rows from `begin` to `end` of the padded image, which counts from the first row of padding.
void Conv::pack_band(const SampleRows& rows, std::size_t begin, std::size_t end, std::size_t lanes, float* to) const {
  const std::size_t row = from_.stored_width() * lanes, channel = from_.stored_height() * row;
  const std::size_t top = window_.padding_rows, bottom = top + from_.height;
  const std::size_t first = std::clamp(begin, top, bottom), last = std::clamp(end, top, bottom);
  const auto pack = DWF_KERNEL(set_, pack_lanes);
  const Gaps gaps{from_.width, from_.height, 2 * from_.border_columns, 0};
  for (std::size_t c = 0; c < from_.channels; ++c) {
    const auto clear = [&](std::size_t y) { std::fill_n(to + c * channel + (y - begin) * row, from_.width * lanes, 0.0f); };
    for (std::size_t y = begin; y < std::min(end, top); ++y) clear(y);
    for (std::size_t y = std::max(begin, bottom); y < end; ++y) clear(y);
    if (first < last)
      pack(rows.from + (c * from_.height + first - top) * from_.width, from_.features(), rows.samples,
           (last - first) * from_.width, lanes, gaps, to + c * channel + (first - begin) * row);
  }
}

bool Conv::run_rows(const Tile& tile, const SampleRows& rows) const {
  const std::size_t lanes = tile.lanes, size = band();
  if (size == to_.height || lanes != kRun || adds_ || !map_.empty() || !limited_) return false;
  const std::size_t reach = window_.dilation_rows * (window_.rows - 1) + 1;
  const std::size_t row = from_.stored_width() * lanes, channel = from_.stored_height() * row;
  const auto unpack = DWF_KERNEL(set_, unpack_lanes);
  const Gaps gaps{to_.width, to_.height, 2 * to_.border_columns, 0};
  const Ends ends{bias_.empty() ? nullptr : bias_.data(), nullptr, low_, high_};
  // Always the same rows of the values hold the band.
  float* const inputs = tile.values[this->inputs[0]] + from_.position(0) * lanes;
  float* const outputs = tile.values[output] + to_.position(0) * lanes;
  std::size_t begin = 0, end = 0;  // which rows of the padded image are there
  for (std::size_t y = 0; y < to_.height; y += size) {
    const std::size_t count = std::min(size, to_.height - y);
    const std::size_t next = y * window_.stride_rows, next_end = next + (count - 1) * window_.stride_rows + reach;
    const std::size_t kept = end > next ? end - next : 0;
    for (std::size_t c = 0; c < from_.channels && kept > 0; ++c)
      std::memmove(inputs + c * channel, inputs + c * channel + (next - begin) * row,
                   (kept * row - 2 * from_.border_columns * lanes) * sizeof(float));
    pack_band(rows, next + kept, next_end, lanes, inputs + kept * row);
    begin = next;
    end = next_end;
    Field part = field(lanes);
    part.rows = count;
    filters_->run(0, parts_.size(), part, inputs - window_.padding_columns * lanes, ends, outputs);
    for (std::size_t c = 0; c < to_.channels; ++c)
      unpack(outputs + c * part.to_channel, lanes, rows.samples, count * to_.width, to_.features(), gaps,
             rows.to + (c * to_.height + y) * to_.width);
  }
  return true;
}

}  // namespace dwf
