#include <utility>

#include "kernels/conv.h"
#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Sums are kept in registers: kDenseChannels output channels by some positions, which are rows by columns. An input is
// loaded once for all channels, a weight once for all positions.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::size_t kMostPositions = 6;
#else
constexpr std::size_t kMostPositions = 2;
#endif

struct Channels {
  std::size_t size;
  const std::uint32_t* offsets;
  const float* weights;
  float bias[kDenseChannels];
  float low, high;
};

struct Place {
  const float* from;
  const float* added;
  std::size_t added_channel, added_row;
  float* to;
};

template <std::size_t kChannels, std::size_t kRows, std::size_t kColumns>
void block(const Channels& channels, const Field& field, const Place& place) {
  Lanes sums[kChannels][kRows][kColumns];
  for (std::size_t c = 0; c < kChannels; ++c)
    for (std::size_t y = 0; y < kRows; ++y)
      for (std::size_t x = 0; x < kColumns; ++x) {
        sums[c][y][x] = broadcast(channels.bias[c]);
        if (place.added != nullptr)
          sums[c][y][x] += load(place.added + c * place.added_channel + y * place.added_row + x * field.run);
      }
  const std::size_t from_row = field.from_row, from_column = field.from_column, unit = field.unit;
  const float* weight = channels.weights;
  const std::uint32_t* const end = channels.offsets + channels.size;
  for (const std::uint32_t* offset = channels.offsets; offset != end; ++offset, weight += kChannels) {
    const float* const corner = place.from + *offset * unit;
    Lanes weights[kChannels];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kChannels; ++c) weights[c] = broadcast(weight[c]);
#pragma GCC unroll 8
    for (std::size_t y = 0; y < kRows; ++y)
#pragma GCC unroll 8
      for (std::size_t x = 0; x < kColumns; ++x) {
        const Lanes lanes = load(corner + y * from_row + x * from_column);
#pragma GCC unroll 8
        for (std::size_t c = 0; c < kChannels; ++c) sums[c][y][x] += weights[c] * lanes;
      }
  }
  const Lanes low = broadcast(channels.low), high = broadcast(channels.high);
  for (std::size_t c = 0; c < kChannels; ++c)
    for (std::size_t y = 0; y < kRows; ++y)
      for (std::size_t x = 0; x < kColumns; ++x)
        store(place.to + c * field.to_channel + y * field.to_row + x * field.run,
              at_most(at_least(sums[c][y][x], low), high));
}

using Block = void (*)(const Channels&, const Field&, const Place&);

template <std::size_t kChannels, std::size_t kRows, std::size_t kColumns>
constexpr Block pick() {
  if constexpr (kRows * kColumns <= kMostPositions)
    return block<kChannels, kRows, kColumns>;
  else
    return nullptr;
}

// By rows and columns, less one.
struct Blocks {
  Block of[kMostPositions][kMostPositions];
};

template <std::size_t kChannels, std::size_t... kShape>
constexpr Blocks all(std::index_sequence<kShape...>) {
  Blocks blocks{};
  ((blocks.of[kShape / kMostPositions][kShape % kMostPositions] =
        pick<kChannels, kShape / kMostPositions + 1, kShape % kMostPositions + 1>()),
   ...);
  return blocks;
}

constexpr Blocks kBlocks = all<kDenseChannels>(std::make_index_sequence<kMostPositions * kMostPositions>{});
constexpr Blocks kSingle = all<1>(std::make_index_sequence<kMostPositions * kMostPositions>{});

// All output channels of a panel, at some positions.
void positions(const DensePanel& panel, std::size_t rows, std::size_t columns, const Field& field, const Ends& ends,
               Place place) {
  Channels channels{panel.size, panel.offsets, panel.weights, {}, -__builtin_inff(), __builtin_inff()};
  if (panel.closes) channels.low = ends.low, channels.high = ends.high;
  std::size_t step;
  for (std::size_t c = 0; c < panel.channels; c += step) {
    step = panel.channels - c >= kDenseChannels ? kDenseChannels : 1;
    for (std::size_t k = 0; k < step; ++k)
      channels.bias[k] = panel.opens && ends.bias != nullptr ? ends.bias[panel.first + c + k] : 0.0f;
    (step == kDenseChannels ? kBlocks : kSingle).of[rows - 1][columns - 1](channels, field, place);
    if (place.added != nullptr) place.added += step * place.added_channel;
    place.to += step * field.to_channel;
    channels.weights += step * panel.size;
  }
}

std::size_t pieces(std::size_t size, std::size_t most) { return (size + most - 1) / most; }

}  // namespace

void dense_conv(const DensePanel* panels, std::size_t count, const Field& field, const float* from, const Ends& ends,
                float* to) {
  const std::size_t across = pieces(field.columns, kMostPositions), widest = pieces(field.columns, across);
  const std::size_t down = pieces(field.rows, kMostPositions / widest);
  for (std::size_t line = 0; line < field.run; line += kRun)
    for (std::size_t j = 0; j < down; ++j) {
      const std::size_t top = field.rows * j / down, rows = field.rows * (j + 1) / down - top;
      for (std::size_t i = 0; i < across; ++i) {
        const std::size_t left = field.columns * i / across, columns = field.columns * (i + 1) / across - left;
        for (std::size_t part = line; part < line + kRun; part += kLanes)
          for (const DensePanel* panel = panels; panel < panels + count; ++panel) {
            Place place{from + top * field.from_row + left * field.from_column + part, nullptr, field.added_channel,
                        field.added_row,
                        to + panel->first * field.to_channel + top * field.to_row + left * field.run + part};
            if (!panel->opens) {
              place.added = place.to;
              place.added_channel = field.to_channel;
              place.added_row = field.to_row;
            } else if (ends.added != nullptr) {
              place.added = ends.added + panel->first * field.added_channel + top * field.added_row + left * field.run + part;
            }
            positions(*panel, rows, columns, field, ends, place);
          }
      }
    }
}

}  // namespace DWF_ISA
}  // namespace dwf
