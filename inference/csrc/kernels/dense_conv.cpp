#include <utility>

#include "kernels/conv.h"
#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Sums are kept in registers: kDenseChannels output channels by some columns. An input is loaded once for all channels, a
// weight once for all columns.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::size_t kMostColumns = 6;
#else
constexpr std::size_t kMostColumns = 2;
#endif

struct Channels {
  std::size_t size;
  const std::uint32_t* offsets;
  const float* weights;
  float bias[kDenseChannels];
  float low, high;
};

template <std::size_t kChannels, std::size_t kColumns>
void block(const Channels& channels, const Field& field, const float* from, const float* added,
           std::size_t added_channel, float* to) {
  Lanes sums[kChannels][kColumns];
  for (std::size_t c = 0; c < kChannels; ++c)
    for (std::size_t x = 0; x < kColumns; ++x) {
      sums[c][x] = broadcast(channels.bias[c]);
      if (added != nullptr) sums[c][x] += load(added + c * added_channel + x * field.run);
    }
  const std::size_t from_column = field.from_column, unit = field.unit;
  const float* weight = channels.weights;
  const std::uint32_t* const end = channels.offsets + channels.size;
  for (const std::uint32_t* offset = channels.offsets; offset != end; ++offset, weight += kChannels) {
    const float* const column = from + *offset * unit;
    Lanes weights[kChannels];
#pragma GCC unroll 8
    for (std::size_t c = 0; c < kChannels; ++c) weights[c] = broadcast(weight[c]);
#pragma GCC unroll 8
    for (std::size_t x = 0; x < kColumns; ++x) {
      const Lanes lanes = load(column + x * from_column);
#pragma GCC unroll 8
      for (std::size_t c = 0; c < kChannels; ++c) sums[c][x] += weights[c] * lanes;
    }
  }
  const Lanes low = broadcast(channels.low), high = broadcast(channels.high);
  for (std::size_t c = 0; c < kChannels; ++c)
    for (std::size_t x = 0; x < kColumns; ++x)
      store(to + c * field.to_channel + x * field.run, at_most(at_least(sums[c][x], low), high));
}

using Block = void (*)(const Channels&, const Field&, const float*, const float*, std::size_t, float*);

// By columns, less one.
struct Blocks {
  Block of[kMostColumns];
};

template <std::size_t kChannels, std::size_t... kColumns>
constexpr Blocks all(std::index_sequence<kColumns...>) {
  return {{block<kChannels, kColumns + 1>...}};
}

constexpr Blocks kBlocks = all<kDenseChannels>(std::make_index_sequence<kMostColumns>{});
constexpr Blocks kSingle = all<1>(std::make_index_sequence<kMostColumns>{});

// All output channels of a panel, at some columns of one row.
void columns(const DensePanel& panel, std::size_t size, const Field& field, const float* from, const Ends& ends,
             const float* added, std::size_t added_channel, float* to) {
  Channels channels{panel.size, panel.offsets, panel.weights, {}, -__builtin_inff(), __builtin_inff()};
  if (panel.closes) channels.low = ends.low, channels.high = ends.high;
  std::size_t step;
  for (std::size_t c = 0; c < panel.channels; c += step) {
    step = panel.channels - c >= kDenseChannels ? kDenseChannels : 1;
    for (std::size_t k = 0; k < step; ++k)
      channels.bias[k] = panel.opens && ends.bias != nullptr ? ends.bias[panel.first + c + k] : 0.0f;
    const Blocks& blocks = step == kDenseChannels ? kBlocks : kSingle;
    blocks.of[size - 1](channels, field, from, added == nullptr ? nullptr : added + c * added_channel, added_channel,
                        to + c * field.to_channel);
    channels.weights += step * panel.size;
  }
}

}  // namespace

void dense_conv(const DensePanel* panels, std::size_t count, const Field& field, const float* from, const Ends& ends,
                float* to) {
  const std::size_t across = (field.columns + kMostColumns - 1) / kMostColumns;
  for (std::size_t line = 0; line < field.run; line += kRun)
    for (std::size_t row = 0; row < field.rows; ++row)
      for (std::size_t i = 0; i < across; ++i) {
        const std::size_t left = field.columns * i / across, size = field.columns * (i + 1) / across - left;
        for (std::size_t part = line; part < line + kRun; part += kLanes)
          for (const DensePanel* panel = panels; panel < panels + count; ++panel) {
            float* const target = to + panel->first * field.to_channel + row * field.to_row + left * field.run + part;
            const float* added = nullptr;
            if (!panel->opens) {
              added = target;
            } else if (ends.added != nullptr) {
              added = ends.added + panel->first * field.added_channel + row * field.added_row + left * field.run + part;
            }
            columns(*panel, size, field, from + row * field.from_row + left * field.from_column + part, ends, added,
                    panel->opens ? field.added_channel : field.to_channel, target);
          }
      }
}

}  // namespace DWF_ISA
}  // namespace dwf
