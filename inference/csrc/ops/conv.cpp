#include "ops/conv.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/rows.h"
#include "ops/images.h"

namespace dwf {
namespace {

// Bytes of gathered windows at once: of what the second cache holds, enough.
constexpr std::size_t kGathered = std::size_t{1} << 18;
constexpr std::size_t kMostRuns = 24;
// What a register block of a tile covers, about: rows, columns.
constexpr std::size_t kBlockRows = 3, kBlockColumns = 8;
// And of a lone image.
constexpr std::size_t kLoneRows = 8, kLoneColumns = 48;

// What fits into the first cache, beside sums and weights that pass through.
constexpr std::size_t kFirstCache = 32768;
// Weights of an output channel in a part, on average, from which on it pays to cut.
constexpr double kLeastTaps = 5;
// And of a lone image, whose sums of all output channels are in the second cache.
constexpr double kLeastGatheredTaps = 10;

std::size_t pieces(std::size_t size, std::size_t most) { return (size + most - 1) / most; }

}  // namespace

Conv::Conv(const Builder& builder, int input, int added, int output, const Window& window, std::size_t groups,
           const Weights& weights, std::vector<float> bias, Activation activation, std::size_t panel)
    : Op(added < 0 ? std::vector<int>{input} : std::vector<int>{input, added}, output),
      set_(builder.set),
      from_(builder.layout(input)),
      to_(builder.layout(output)),
      added_(added < 0 ? Layout{} : builder.layout(added)),
      adds_(added >= 0),
      window_(window),
      activation_(activation),
      limited_(activation.function == Function::none || activation.function == Function::relu ||
               activation.function == Function::relu6),
      low_(activation.function == Function::relu || activation.function == Function::relu6
               ? 0
               : -std::numeric_limits<float>::infinity()),
      high_(activation.function == Function::relu6 ? 6 : std::numeric_limits<float>::infinity()),
      kernel_(weights.kernel()),
      // Two things to add, and outputs that are written twice, would need a place for the sum of both.
      shifted_(window.stride_columns == 1 && to_.width >= kRun && (bias.size() == to_.channels || !adds_)),
      corner_(from_.position(0, 0, 0) - window.padding_rows * from_.stored_width() - window.padding_columns) {
  if (bias.size() == to_.channels) {
    bias_.assign(bias.begin(), bias.end());
  } else {
    map_.assign(bias.begin(), bias.end());
    map_.resize(map_.size() + kRun);  // whole registers are read
  }
  const Taps taps{from_.channels, to_.channels, window.rows * window.columns, groups};
  std::vector<std::uint32_t> positions;
  for (std::size_t c = 0; c < from_.channels; ++c)
    for (std::size_t y = 0; y < window.rows; ++y)
      for (std::size_t x = 0; x < window.columns; ++x)
        positions.push_back(static_cast<std::uint32_t>(
            (c * from_.stored_height() + y * window.dilation_rows) * from_.stored_width() + x * window.dilation_columns));

  if (shifted_ || builder.widest > 1) {
    parts_ = cut(taps, panel_channels(taps, weights, panel, builder.widest), weights.mixed());
    filters_ = weights.pack(set_, taps, parts_, positions);
  }
  const Csr* const rows = weights.rows();
  if (!shifted_ && rows != nullptr && ConvMatrix::pays(*rows, taps, window, from_, to_)) {
    std::vector<float> biases(to_.features());
    for (std::size_t f = 0; f < biases.size(); ++f)
      biases[f] = bias_.empty() ? map_[f] : bias_[f / (to_.height * to_.width)];
    matrix_ = std::make_unique<const ConvMatrix>(set_, *rows, taps, window, from_, to_, biases);
  } else if (!shifted_) {
    plan_gathering(taps, weights, positions);
  }
}

void Conv::plan_gathering(const Taps& taps, const Weights& weights, const std::vector<std::uint32_t>& positions) {
  const std::size_t outputs = to_.height * to_.width;
  to_direct_ = to_.dense() && outputs % kRun == 0 && (!adds_ || added_.dense());
  from_direct_ = taps.window == 1 && window_.stride_rows == 1 && window_.stride_columns == 1 &&
                 from_.dense() && outputs % kRun == 0;
  plan_stretches();
  // In the first cache, if each output channel has enough to do with what is in it.
  const std::size_t bytes = most_runs_ * kRun * sizeof(float) * taps.window;
  const std::size_t few = std::max<std::size_t>(kFirstCache / bytes, 1);
  const double each = static_cast<double>(weights.size()) / static_cast<double>(taps.outputs * taps.inputs_of_group());
  const bool cached = each * static_cast<double>(few) >= kLeastGatheredTaps;
  const std::size_t gathered = cached ? few : std::max<std::size_t>(kGathered / bytes, 1);
  single_parts_ = cut(taps, from_direct_ ? from_.channels : gathered, weights.mixed());
  std::vector<std::uint32_t> places(positions.size());
  for (const Part& part : single_parts_) {
    gathered_.push_back(weights.used(taps, part));
    std::uint32_t next = 0;
    for (std::uint32_t& tap : gathered_.back()) {
      places[tap] = next++;
      tap = positions[tap];
    }
    most_gathered_ = std::max(most_gathered_, gathered_.back().size());
  }
  if (from_direct_)
    for (std::size_t c = 0; c < places.size(); ++c) places[c] = static_cast<std::uint32_t>(c);
  single_filters_ = weights.pack(set_, taps, single_parts_, places);
}

// How many input channels a part of the convolution of a tile has.
std::size_t Conv::panel_channels(const Taps& taps, const Weights& weights, std::size_t panel, std::size_t widest) const {
  // Of one channel below a register block.
  const std::size_t high = widest == 1 ? kLoneRows : kBlockRows, wide = widest == 1 ? kLoneColumns : kBlockColumns;
  const std::size_t rows = (std::min(high, to_.height) - 1) * window_.stride_rows + window_.rows;
  const std::size_t columns = (std::min(wide, to_.width) - 1) * window_.stride_columns + window_.columns;
  const std::size_t bytes = rows * columns * std::min(widest, kRun) * sizeof(float);
  const std::size_t most = std::max<std::size_t>((panel == kChoose ? kFirstCache : panel) / bytes, 1);
  if (panel == 0) return from_.channels;
  if (panel != kChoose) return most;
  // Each part but the first loads and stores all sums once more.
  const double each = static_cast<double>(weights.size()) / static_cast<double>(taps.outputs * taps.inputs_of_group());
  return each * static_cast<double>(most) < kLeastTaps ? from_.channels : most;
}

void Conv::plan_stretches() {
  const std::size_t runs = pieces(to_.height * to_.width, kRun), count = pieces(runs, kMostRuns);
  for (std::size_t i = 0; i < count; ++i) {
    Stretch stretch{};
    const std::size_t begin = runs * i / count;
    stretch.position = begin * kRun;
    stretch.runs = stretch.columns = runs * (i + 1) / count - begin;
    stretch.rows = 1;
    for (const std::size_t side : {8, 7, 6, 5, 4, 3})
      if (stretch.rows == 1 && stretch.runs % side == 0) {
        stretch.rows = stretch.runs / side;
        stretch.columns = side;
      }
    stretch.from = segments(stretch, from_, window_.stride_rows, window_.stride_columns);
    stretch.to = segments(stretch, to_, 1, 1);
    if (adds_) stretch.added = segments(stretch, added_, 1, 1);
    most_runs_ = std::max(most_runs_, stretch.runs);
    stretches_.push_back(std::move(stretch));
  }
}

// Where a stretch's outputs, or the corners of their windows, lie in rows of an image.
std::vector<Segment> Conv::segments(const Stretch& stretch, const Layout& layout, std::size_t stride_rows,
                                    std::size_t stride_columns) const {
  std::vector<Segment> found;
  const std::size_t end = std::min(stretch.position + stretch.runs * kRun, to_.height * to_.width);
  for (std::size_t p = stretch.position; p < end;) {
    const std::size_t row = p / to_.width, column = p % to_.width;
    const std::size_t size = std::min(to_.width - column, end - p);
    found.push_back({row * stride_rows * layout.stored_width() + column * stride_columns, p - stretch.position, size});
    p += size;
  }
  return found;
}

std::size_t Conv::scratch(std::size_t lanes) const {
  if (lanes > 1 || shifted_) return 0;
  if (matrix_ != nullptr) return matrix_->scratch();
  const std::size_t windows = from_direct_ ? 0 : most_gathered_ * most_runs_ * kRun;
  return windows + (to_direct_ ? 0 : to_.channels * most_runs_ * kRun);
}

std::size_t Conv::bytes() const {
  std::size_t weights = 0;
  for (const Filters* filters : {filters_.get(), single_filters_.get()})
    if (filters != nullptr) weights += filters->bytes();
  if (matrix_ != nullptr) weights += matrix_->bytes();
  return weights + (bias_.size() + map_.size()) * sizeof(float);
}

void Conv::run(const Tile& tile) const {
  if (tile.lanes > 1 || shifted_) {
    run_in_place(tile);
  } else if (matrix_ != nullptr) {
    return run_matrix(tile);
  } else {
    run_gathered(tile);
  }
  if (!limited_) finish(tile.values[output], tile.lanes);
}

void Conv::run_in_place(const Tile& tile) const {
  const std::size_t lanes = tile.lanes;
  // Of a lone image, a run is a piece of a row.
  const bool lone = lanes == 1;
  const std::size_t run = lone ? kRun : lanes;
  Field field{to_.height,
              lone ? to_.width / kRun : to_.width,
              run,
              lanes,
              window_.stride_rows * from_.stored_width() * lanes,
              lone ? kRun : window_.stride_columns * lanes,
              to_.stored_height() * to_.stored_width() * lanes,
              to_.stored_width() * lanes,
              added_.stored_height() * added_.stored_width() * lanes,
              added_.stored_width() * lanes};
  const float* const from = tile.values[inputs[0]] + corner_ * lanes;
  float* const to = tile.values[output] + to_.position(0) * lanes;
  const float* added = adds_ ? tile.values[inputs[1]] + added_.position(0) * lanes : nullptr;
  if (!map_.empty() && lone) {
    added = map_.data();
    field.added_channel = to_.height * to_.width;
    field.added_row = to_.width;
  } else if (!map_.empty()) {
    // The map goes in first, and is added to like a value that was there.
    for (std::size_t f = 0; f < to_.features(); ++f) {
      float* const place = tile.values[output] + to_.position(f) * lanes;
      const float* const more = adds_ ? tile.values[inputs[1]] + added_.position(f) * lanes : nullptr;
      for (std::size_t l = 0; l < lanes; ++l) place[l] = more != nullptr ? map_[f] + more[l] : map_[f];
    }
    added = to;
    field.added_channel = field.to_channel;
    field.added_row = field.to_row;
  }
  const float* const bias = bias_.empty() ? nullptr : bias_.data();
  filters_->run(0, parts_.size(), field, from, {bias, added, low_, high_}, to);
  const std::size_t rest = lone ? to_.width % kRun : 0;
  if (rest == 0) return;
  // What is left of each row, as the end of a run that overlaps with the one before.
  const std::size_t left = to_.width - kRun;
  field.columns = 1;
  filters_->run(0, parts_.size(), field, from + left, {bias, added == nullptr ? nullptr : added + left, low_, high_},
                to + left);
}

void Conv::run_gathered(const Tile& tile) const {
  const auto gather_windows = DWF_KERNEL(set_, gather);
  const auto scatter_sums = DWF_KERNEL(set_, scatter);
  const std::size_t outputs = to_.height * to_.width;
  const float* const from = tile.values[inputs[0]];
  const float* const added = adds_ ? tile.values[inputs[1]] + added_.position(0) : nullptr;
  float* const to = tile.values[output] + to_.position(0);
  float* const sums = tile.scratch + (from_direct_ ? 0 : most_gathered_ * most_runs_ * kRun);
  for (const Stretch& stretch : stretches_) {
    const std::size_t width = stretch.runs * kRun, row = stretch.columns * kRun;
    const std::size_t unit = from_direct_ ? outputs : width;
    const std::size_t channel = to_direct_ ? outputs : width;
    float* const target = to_direct_ ? to + stretch.position : sums;
    Field field{stretch.rows, stretch.columns, kRun, unit, row, kRun, channel, row, outputs, row};
    Ends ends{bias_.empty() ? nullptr : bias_.data(), nullptr, low_, high_};
    if (!map_.empty()) ends.added = map_.data() + stretch.position;
    // One value can be added on the way; what else there is comes after.
    const bool later = adds_ && (!to_direct_ || !map_.empty());
    if (adds_ && !later) ends.added = added + stretch.position;
    if (later) ends.low = -std::numeric_limits<float>::infinity(), ends.high = std::numeric_limits<float>::infinity();
    for (std::size_t p = 0; p < single_parts_.size(); ++p) {
      const float* windows = from + stretch.position;
      if (!from_direct_) {
        gather_windows(from + corner_, gathered_[p].data(), gathered_[p].size(), stretch.from.data(),
                       stretch.from.size(), window_.stride_columns, width, tile.scratch);
        windows = tile.scratch;
      }
      single_filters_->run(p, 1, field, windows, ends, target);
    }
    if (to_direct_ && !later) continue;
    const std::size_t stored = to_.stored_height() * to_.stored_width();
    const std::size_t added_stored = added_.stored_height() * added_.stored_width();
    scatter_sums(target, to_.channels, channel, stretch.to.data(), stretch.to.size(), later ? added : nullptr,
                 stretch.added.data(), added_stored, low_, high_, stored, to);
  }
}

void Conv::run_matrix(const Tile& tile) const {
  float* const to = tile.values[output];
  const bool relu = !adds_ && activation_.function == Function::relu;
  matrix_->run(tile.values[inputs[0]], tile.scratch, relu, to);
  if (adds_) {
    const float* const added = tile.values[inputs[1]];
    for_runs(false, [&](std::size_t feature, std::size_t size) {
      float* const row = to + to_.position(feature);
      DWF_KERNEL(set_, add_rows)(row, added + added_.position(feature), size, activation_, row);
    }, to_, added_);
  } else if (!relu && activation_.function != Function::none) {
    finish(to, 1);
  }
}

// Functions that are more than limits.
void Conv::finish(float* to, std::size_t lanes) const {
  const auto apply = DWF_KERNEL(set_, activate);
  const std::size_t run = to_.dense() ? to_.features() : to_.width;
  for (std::size_t f = 0; f < to_.features(); f += run) {
    float* const row = to + to_.position(f) * lanes;
    apply(row, run * lanes, activation_, row);
  }
}

}  // namespace dwf
