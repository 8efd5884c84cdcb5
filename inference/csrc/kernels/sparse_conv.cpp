#include <utility>

#include "kernels/conv.h"
#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Sums are kept in registers: rows by columns of the output, for one output channel after the other.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::size_t kMostSums = 28;
#else
constexpr std::size_t kMostSums = 12;
#endif
constexpr std::size_t kMostRows = 8, kMostColumns = 8;

struct Place {
  const float* from;
  const float* added;
  float* to;
};

// Where columns are one cache line apart, as mostly, the compiler knows the distance.
template <std::size_t kRows, std::size_t kColumns, bool kClose>
void block(const SparsePanel& panel, const Field& field, const Ends& ends, Place place) {
  constexpr std::size_t kSums = kRows * kColumns;
  // A few sums alone would wait for each other: more of each, over different taps, are added up at the end.
  constexpr std::size_t kChains = kSums >= 8 ? 1 : kSums >= 4 ? 2 : 4;
  const std::size_t column = kClose ? kRun : field.run;
  const std::size_t unit = field.unit, from_row = field.from_row, from_column = kClose ? kRun : field.from_column;
  const Lanes low = broadcast(ends.low), high = broadcast(ends.high);
  for (std::size_t c = 0; c < panel.channels; ++c) {
    Lanes sums[kChains][kRows][kColumns];
    const Lanes bias = broadcast(ends.bias != nullptr ? ends.bias[c] : 0.0f);
#pragma GCC unroll 8
    for (std::size_t y = 0; y < kRows; ++y)
#pragma GCC unroll 8
      for (std::size_t x = 0; x < kColumns; ++x) {
        sums[0][y][x] = bias;
        for (std::size_t k = 1; k < kChains; ++k) sums[k][y][x] = Lanes{};
      }
    if (place.added != nullptr) {
#pragma GCC unroll 8
      for (std::size_t y = 0; y < kRows; ++y)
#pragma GCC unroll 8
        for (std::size_t x = 0; x < kColumns; ++x)
          sums[0][y][x] += load(place.added + y * field.added_row + x * column);
      place.added += field.added_channel;
    }
    const Tap* tap = panel.taps + panel.begins[c];
    const Tap* const end = panel.taps + panel.begins[c + 1];
    const auto add = [&](std::size_t k, const Tap& next) __attribute__((always_inline)) {
      const float* const from = place.from + next.offset * unit;
      const Lanes weight = broadcast(next.weight);
#pragma GCC unroll 8
      for (std::size_t y = 0; y < kRows; ++y) {
        const float* row = from + y * from_row;
        __asm__("" : "+r"(row));  // one register a row, where the compiler would take one a column
#pragma GCC unroll 8
        for (std::size_t x = 0; x < kColumns; ++x) sums[k][y][x] += weight * load(row + x * from_column);
      }
    };
    for (; end - tap >= static_cast<std::ptrdiff_t>(kChains); tap += kChains)
      for (std::size_t k = 0; k < kChains; ++k) add(k, tap[k]);
    if (kChains > 1)
      for (; tap != end; ++tap) add(0, *tap);
#pragma GCC unroll 8
    for (std::size_t y = 0; y < kRows; ++y)
#pragma GCC unroll 8
      for (std::size_t x = 0; x < kColumns; ++x) {
        Lanes sum = sums[0][y][x];
        for (std::size_t k = 1; k < kChains; ++k) sum += sums[k][y][x];
        store(place.to + y * field.to_row + x * column, at_most(at_least(sum, low), high));
      }
    place.to += field.to_channel;
  }
}

using Block = void (*)(const SparsePanel&, const Field&, const Ends&, Place);

template <bool kClose, std::size_t kRows, std::size_t kColumns>
constexpr Block pick() {
  if constexpr (kRows * kColumns <= kMostSums)
    return block<kRows, kColumns, kClose>;
  else
    return nullptr;
}

// By rows and columns, less one.
struct Blocks {
  Block of[kMostRows][kMostColumns];
};

template <bool kClose, std::size_t... kShape>
constexpr Blocks all(std::index_sequence<kShape...>) {
  Blocks blocks{};
  ((blocks.of[kShape / kMostColumns][kShape % kMostColumns] =
        pick<kClose, kShape / kMostColumns + 1, kShape % kMostColumns + 1>()),
   ...);
  return blocks;
}

constexpr Blocks kCloseBlocks = all<true>(std::make_index_sequence<kMostRows * kMostColumns>{});
constexpr Blocks kFarBlocks = all<false>(std::make_index_sequence<kMostRows * kMostColumns>{});

std::size_t pieces(std::size_t size, std::size_t most) { return (size + most - 1) / most; }

}  // namespace

void sparse_conv(const SparsePanel* panels, std::size_t count, const Field& field, const float* from, const Ends& ends,
                 float* to) {
  const Blocks& blocks = field.run == kRun && field.from_column == kRun ? kCloseBlocks : kFarBlocks;
  // Blocks of nearly one size, so that none is left too small to be worth its overhead.
  const std::size_t across = pieces(field.columns, kMostColumns), widest = pieces(field.columns, across);
  const std::size_t down = pieces(field.rows, kMostSums / widest < kMostRows ? kMostSums / widest : kMostRows);
  for (std::size_t line = 0; line < field.run; line += kRun)
    for (std::size_t j = 0; j < down; ++j) {
      const std::size_t top = field.rows * j / down, rows = field.rows * (j + 1) / down - top;
      for (std::size_t i = 0; i < across; ++i) {
        const std::size_t left = field.columns * i / across, columns = field.columns * (i + 1) / across - left;
        const Block run = blocks.of[rows - 1][columns - 1];
        for (std::size_t part = line; part < line + kRun; part += kLanes)
          for (const SparsePanel* panel = panels; panel < panels + count; ++panel) {
            float* const target = to + panel->first * field.to_channel + top * field.to_row + left * field.run + part;
            Place place{from + top * field.from_row + left * field.from_column + part, nullptr, target};
            Field shape = field;
            Ends inner{nullptr, nullptr, -__builtin_inff(), __builtin_inff()};
            if (panel->closes) inner.low = ends.low, inner.high = ends.high;
            if (panel->opens) {
              if (ends.bias != nullptr) inner.bias = ends.bias + panel->first;
              if (ends.added != nullptr)
                place.added = ends.added + panel->first * field.added_channel + top * field.added_row + left * field.run + part;
            } else {
              place.added = target;
              shape.added_channel = field.to_channel, shape.added_row = field.to_row;
            }
            run(*panel, shape, inner, place);
          }
      }
    }
}

}  // namespace DWF_ISA
}  // namespace dwf
