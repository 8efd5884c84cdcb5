#include "kernels/lanes.h"
#include "kernels/pool.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Of two registers side by side, every other piece of kSize floats: the first of each pair, and the second.
template <std::size_t kSize>
DWF_INLINE void split(Lanes a, Lanes b, Lanes& first, Lanes& second) {
#if defined(__AVX512F__)
  alignas(kRegister) std::int32_t places[2][kLanes];
  for (std::size_t i = 0; i < kLanes; ++i)
    for (std::size_t k = 0; k < 2; ++k)
      places[k][i] = static_cast<std::int32_t>((i / kSize * 2 + k) * kSize + i % kSize);
  first = _mm512_permutex2var_ps(a, _mm512_load_si512(places[0]), b);
  second = _mm512_permutex2var_ps(a, _mm512_load_si512(places[1]), b);
#elif defined(__AVX2__)
  if (kSize == 4) {
    first = _mm256_permute2f128_ps(a, b, 0x20);
    second = _mm256_permute2f128_ps(a, b, 0x31);
    return;
  }
  // Within halves of registers, whose middle quarters then change places.
  const Lanes low = kSize == 1 ? _mm256_shuffle_ps(a, b, 0x88) : _mm256_shuffle_ps(a, b, 0x44);
  const Lanes high = kSize == 1 ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0xee);
  first = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(low), 0xd8));
  second = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(high), 0xd8));
#elif defined(__SSE2__)
  first = kSize == 1 ? _mm_shuffle_ps(a, b, 0x88) : _mm_shuffle_ps(a, b, 0x44);
  second = kSize == 1 ? _mm_shuffle_ps(a, b, 0xdd) : _mm_shuffle_ps(a, b, 0xee);
#else
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::size_t place = i / kSize * 2 * kSize + i % kSize;
    first[i] = place < kLanes ? a[place] : b[place - kLanes];
    second[i] = place + kSize < kLanes ? a[place + kSize] : b[place + kSize - kLanes];
  }
#endif
}

struct Largest {
  DWF_INLINE Lanes join(Lanes a, Lanes b) { return select(a == a, at_least(b, a), a); }
};

struct Mean {
  DWF_INLINE Lanes join(Lanes a, Lanes b) { return a + b; }
};

template <class How, std::size_t kSize>
DWF_INLINE Lanes join_pairs(Lanes a, Lanes b) {
  Lanes first, second;
  split<kSize>(a, b, first, second);
  return How::join(first, second);
}

// Rows of at least a register. The last register of a row overlaps with the one before.
template <class How>
void wide_rows(const Pooling& pooling, float scale, const float* from, float* to) {
  for (std::size_t c = 0; c < pooling.channels; ++c)
    for (std::size_t y = 0; y < pooling.rows; ++y) {
      const float* const above = from + c * pooling.from_channel + 2 * y * pooling.from_row;
      const float* const below = above + pooling.from_row;
      float* const target = to + c * pooling.to_channel + y * pooling.to_row;
      for (std::size_t next = 0; next < pooling.columns; next += kLanes) {
        const std::size_t x = next + kLanes <= pooling.columns ? next : pooling.columns - kLanes;
        const Lanes left = How::join(load(above + 2 * x), load(below + 2 * x));
        const Lanes right = How::join(load(above + 2 * x + kLanes), load(below + 2 * x + kLanes));
        store(target + x, join_pairs<How, 1>(left, right) * scale);
      }
    }
}

// Rows of kColumns, several to a register, one channel after the other.
template <class How, std::size_t kColumns>
void narrow_rows(const Pooling& pooling, float scale, const float* from, float* to) {
  const std::size_t rows = pooling.channels * pooling.rows;
  const auto place = [&](std::size_t row) {
    return to + row / pooling.rows * pooling.to_channel + row % pooling.rows * pooling.to_row;
  };
  constexpr std::size_t kTogether = kLanes / kColumns;
  const bool dense = pooling.to_row == kColumns && pooling.to_channel == pooling.rows * kColumns;
  std::size_t row = 0;
  for (; row + kTogether <= rows; row += kTogether, from += 4 * kLanes) {
    const Lanes upper = join_pairs<How, 1>(load(from), load(from + kLanes));
    const Lanes lower = join_pairs<How, 1>(load(from + 2 * kLanes), load(from + 3 * kLanes));
    const Lanes joined = join_pairs<How, kColumns>(upper, lower) * scale;
    if (dense) {
      store(to + row * kColumns, joined);
    } else {
      alignas(kRegister) float numbers[kLanes];
      store_aligned(numbers, joined);
      for (std::size_t k = 0; k < kTogether; ++k)
        std::memcpy(place(row + k), numbers + k * kColumns, kColumns * sizeof(float));
    }
  }
  // What is left is less than a register of outputs, in the first lanes of one.
  for (; row < rows; ++row, from += 4 * kColumns)
    for (std::size_t x = 0; x < kColumns; ++x) {
      const float* const corner = from + 2 * x;
      const Lanes above = How::join(broadcast(corner[0]), broadcast(corner[1]));
      const Lanes below = How::join(broadcast(corner[2 * kColumns]), broadcast(corner[2 * kColumns + 1]));
      place(row)[x] = (How::join(above, below) * scale)[0];
    }
}

template <class How>
void pairs(const Pooling& pooling, float scale, const float* from, float* to) {
  if (pooling.columns >= kLanes) return wide_rows<How>(pooling, scale, from, to);
  if constexpr (kLanes > 8)
    if (pooling.columns == 8) return narrow_rows<How, 8>(pooling, scale, from, to);
  if constexpr (kLanes > 4)
    if (pooling.columns == 4) return narrow_rows<How, 4>(pooling, scale, from, to);
  if (pooling.columns == 2) return narrow_rows<How, 2>(pooling, scale, from, to);
  narrow_rows<How, 1>(pooling, scale, from, to);
}

}  // namespace

void pool_pairs(const Pooling& pooling, float scale, const float* from, float* to) {
  (pooling.largest ? pairs<Largest> : pairs<Mean>)(pooling, scale, from, to);
}

}  // namespace DWF_ISA
}  // namespace dwf
