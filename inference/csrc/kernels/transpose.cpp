#include "kernels/transpose.h"

#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Rows of a square block become its columns.
DWF_INLINE void transpose(Lanes (&block)[kLanes]) {
#if defined(__AVX512F__)
  __m512 a[16], b[16];
  // Pairs of rows, interleaved by one and then by two elements within 128 bits.
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_maskz_unpacklo_ps(0xffff, block[i], block[i + 1]);
    a[i + 1] = _mm512_maskz_unpackhi_ps(0xffff, block[i], block[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int k = 0; k < 2; ++k) {
      b[i + 2 * k] = _mm512_maskz_shuffle_ps(0xffff, a[i + k], a[i + k + 2], 0x44);
      b[i + 2 * k + 1] = _mm512_maskz_shuffle_ps(0xffff, a[i + k], a[i + k + 2], 0xee);
    }
  }
  // Each register holds a column of 4 rows in each of its quarters: quarters are transposed among 4 rows of blocks.
  for (int i = 0; i < 4; ++i) {
    const __m512 low0 = _mm512_maskz_shuffle_f32x4(0xffff, b[i], b[i + 4], 0x88);
    const __m512 low1 = _mm512_maskz_shuffle_f32x4(0xffff, b[i + 8], b[i + 12], 0x88);
    const __m512 high0 = _mm512_maskz_shuffle_f32x4(0xffff, b[i], b[i + 4], 0xdd);
    const __m512 high1 = _mm512_maskz_shuffle_f32x4(0xffff, b[i + 8], b[i + 12], 0xdd);
    block[i] = _mm512_maskz_shuffle_f32x4(0xffff, low0, low1, 0x88);
    block[i + 4] = _mm512_maskz_shuffle_f32x4(0xffff, high0, high1, 0x88);
    block[i + 8] = _mm512_maskz_shuffle_f32x4(0xffff, low0, low1, 0xdd);
    block[i + 12] = _mm512_maskz_shuffle_f32x4(0xffff, high0, high1, 0xdd);
  }
#elif defined(__AVX__)
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(block[i], block[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(block[i], block[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = 0; k < 2; ++k) {
      b[i + 2 * k] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0x44);
      b[i + 2 * k + 1] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0xee);
    }
  }
  for (int i = 0; i < 4; ++i) {
    block[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    block[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
#elif defined(__SSE2__)
  _MM_TRANSPOSE4_PS(block[0], block[1], block[2], block[3]);
#else
  Lanes copy[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) copy[i] = block[i];
  for (std::size_t i = 0; i < kLanes; ++i)
    for (std::size_t j = 0; j < kLanes; ++j) block[i][j] = copy[j][i];
#endif
}

// Goes through the places of features.
template <class Float>
struct Cursor {
  Float* at;
  const std::size_t lanes;
  const Gaps& gaps;
  std::size_t column = 0, row = 0;

  // Whether so many features lie side by side.
  __attribute__((always_inline)) bool has(std::size_t count) const { return column + count <= gaps.width; }

  __attribute__((always_inline)) void advance(std::size_t count) {
    at += count * lanes;
    column += count;
    if (column < gaps.width) return;
    column = 0;
    at += gaps.after_row * lanes;
    if (++row < gaps.height) return;
    row = 0;
    at += gaps.after_image * lanes;
  }
};

// The first `present` rows of a block, or all: apart, because a block that a loop of unknown length touches is kept in memory.
template <bool kAll>
DWF_INLINE void load_rows(Lanes (&block)[kLanes], const float* rows, std::size_t stride, std::size_t present) {
  if (kAll) {
    for (std::size_t i = 0; i < kLanes; ++i) block[i] = load(rows + i * stride);
  } else {
    for (std::size_t i = 0; i < kLanes; ++i) block[i] = i < present ? load(rows + i * stride) : Lanes{};
  }
}

template <bool kAll>
DWF_INLINE void store_rows(const Lanes (&block)[kLanes], float* rows, std::size_t stride, std::size_t present) {
  for (std::size_t i = 0; i < kLanes; ++i)
    if (kAll || i < present) store(rows + i * stride, block[i]);
}

template <bool kAll>
void pack_rows(const float* rows, std::size_t stride, std::size_t present, std::size_t features,
               Cursor<float> cursor) {
  std::size_t f = 0;
  for (; f + kLanes <= features; f += kLanes) {
    Lanes block[kLanes];
    load_rows<kAll>(block, rows + f, stride, present);
    transpose(block);
    if (cursor.has(kLanes)) {
      for (std::size_t i = 0; i < kLanes; ++i) store_aligned(cursor.at + i * cursor.lanes, block[i]);
      cursor.advance(kLanes);
    } else {
      for (std::size_t i = 0; i < kLanes; ++i) {
        store_aligned(cursor.at, block[i]);
        cursor.advance(1);
      }
    }
  }
  for (; f < features; ++f) {
    for (std::size_t i = 0; i < kLanes; ++i) cursor.at[i] = i < present ? rows[i * stride + f] : 0.0f;
    cursor.advance(1);
  }
}

template <bool kAll>
void unpack_rows(Cursor<const float> cursor, std::size_t present, std::size_t features, std::size_t stride,
                 float* rows) {
  std::size_t f = 0;
  for (; f + kLanes <= features; f += kLanes) {
    Lanes block[kLanes];
    if (cursor.has(kLanes)) {
      for (std::size_t i = 0; i < kLanes; ++i) block[i] = load_aligned(cursor.at + i * cursor.lanes);
      cursor.advance(kLanes);
    } else {
      for (std::size_t i = 0; i < kLanes; ++i) {
        block[i] = load_aligned(cursor.at);
        cursor.advance(1);
      }
    }
    transpose(block);
    store_rows<kAll>(block, rows + f, stride, present);
  }
  for (; f < features; ++f) {
    for (std::size_t i = 0; i < present; ++i) rows[i * stride + f] = cursor.at[i];
    cursor.advance(1);
  }
}

// Features side by side: a cache line of a sample's row.
constexpr std::size_t kLine = 16;
// Features that go through all lanes before the next: their places stay in the first cache.
constexpr std::size_t kStretch = 64;
// Samples whose rows are written at a time. With 16, rows whose distance is a power of two would not fit in the first cache.
constexpr std::size_t kWritten = kLanes < 8 ? kLanes : 8;

// Whether features lie side by side, enough of them for lines of their own.
DWF_INLINE bool is_dense(const Gaps& gaps, std::size_t features) { return features >= 2 * kLine && gaps.width >= features; }

// How many features come before the first that begins a cache line in every row, if there is one: what lies across two
// lines takes both of them.
DWF_INLINE std::size_t before_line(const float* rows, std::size_t stride) {
  if (stride % kLine != 0) return 0;
  return (kLine - reinterpret_cast<std::uintptr_t>(rows) / sizeof(float) % kLine) % kLine;
}

// Stretches of features, each of them `body(first, count)` in turn: whole lines, but for the first and the last, which may cover
// again what their neighbours do.
template <class Body>
DWF_INLINE void for_each_stretch(std::size_t features, std::size_t head, Body body) {
  if (head > 0) body(std::size_t{0}, kLine);
  std::size_t f = head;
  for (std::size_t count; (count = (features - f < kStretch ? features - f : kStretch) / kLine * kLine) > 0; f += count)
    body(f, count);
  if (f < features) body(features - kLine, kLine);
}

template <bool kAll>
DWF_INLINE void pack_stretch(const float* rows, std::size_t stride, std::size_t present, std::size_t count,
                             std::size_t lanes, float* to) {
  for (std::size_t f = 0; f < count; f += kLanes) {
    Lanes block[kLanes];
    load_rows<kAll>(block, rows + f, stride, present);
    transpose(block);
    for (std::size_t i = 0; i < kLanes; ++i) store_aligned(to + (f + i) * lanes, block[i]);
  }
}

void pack_dense(const float* from, std::size_t stride, std::size_t samples, std::size_t features, std::size_t lanes,
                float* to) {
  for_each_stretch(features, before_line(from, stride), [&](std::size_t first, std::size_t count) {
    for (std::size_t l = 0; l < lanes; l += kLanes) {
      const float* const rows = from + l * stride + first;
      if (l + kLanes <= samples) {
        pack_stretch<true>(rows, stride, kLanes, count, lanes, to + first * lanes + l);
      } else {
        pack_stretch<false>(rows, stride, l < samples ? samples - l : 0, count, lanes, to + first * lanes + l);
      }
    }
  });
}

// A line of features of kWritten samples, of which the first `present` are stored, or all.
template <bool kAll>
DWF_INLINE void unpack_line(const float* from, std::size_t lanes, std::size_t present, std::size_t stride, float* rows) {
#if defined(__AVX512F__)
  __m512 a[8], b[8];
  for (int i = 0; i < 8; ++i) {
    const __m512 low = _mm512_castps256_ps512(_mm256_load_ps(from + i * lanes));
    b[i] = _mm512_maskz_insertf32x8(0xffff, low, _mm256_load_ps(from + (i + 8) * lanes), 1);
  }
  // In each half, 8 features by 8 samples.
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm512_maskz_unpacklo_ps(0xffff, b[i], b[i + 1]);
    a[i + 1] = _mm512_maskz_unpackhi_ps(0xffff, b[i], b[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = 0; k < 2; ++k) {
      b[i + 2 * k] = _mm512_maskz_shuffle_ps(0xffff, a[i + k], a[i + k + 2], 0x44);
      b[i + 2 * k + 1] = _mm512_maskz_shuffle_ps(0xffff, a[i + k], a[i + k + 2], 0xee);
    }
  }
  const __m512i even = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
  const __m512i odd = _mm512_setr_epi32(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  for (std::size_t i = 0; i < 8; ++i) {
    const __m512 row = _mm512_permutex2var_ps(b[i % 4], i < 4 ? even : odd, b[i % 4 + 4]);
    if (kAll || i < present) _mm512_storeu_ps(rows + i * stride, row);
  }
#else
  for (std::size_t f = 0; f < kLine; f += kLanes) {
    Lanes block[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) block[i] = load_aligned(from + (f + i) * lanes);
    transpose(block);
    store_rows<kAll>(block, rows + f, stride, present);
  }
#endif
}

void unpack_dense(const float* from, std::size_t lanes, std::size_t samples, std::size_t features, std::size_t stride,
                  float* to) {
  for_each_stretch(features, before_line(to, stride), [&](std::size_t first, std::size_t count) {
    for (std::size_t l = 0; l < samples; l += kWritten) {
      const float* const lines = from + first * lanes + l;
      float* const rows = to + l * stride + first;
      if (l + kWritten <= samples) {
        for (std::size_t f = 0; f < count; f += kLine) unpack_line<true>(lines + f * lanes, lanes, kWritten, stride, rows + f);
      } else {
        for (std::size_t f = 0; f < count; f += kLine)
          unpack_line<false>(lines + f * lanes, lanes, samples - l, stride, rows + f);
      }
    }
  });
}

}  // namespace

void pack_lanes(const float* from, std::size_t stride, std::size_t samples, std::size_t features, std::size_t lanes,
                const Gaps& gaps, float* to) {
  if (is_dense(gaps, features)) return pack_dense(from, stride, samples, features, lanes, to);
  for (std::size_t l = 0; l < lanes; l += kLanes) {
    const Cursor<float> cursor{to + l, lanes, gaps};
    if (l + kLanes <= samples) {
      pack_rows<true>(from + l * stride, stride, kLanes, features, cursor);
    } else {
      pack_rows<false>(from + l * stride, stride, l < samples ? samples - l : 0, features, cursor);
    }
  }
}

void unpack_lanes(const float* from, std::size_t lanes, std::size_t samples, std::size_t features, std::size_t stride,
                  const Gaps& gaps, float* to) {
  if (is_dense(gaps, features)) return unpack_dense(from, lanes, samples, features, stride, to);
  for (std::size_t l = 0; l < samples; l += kLanes) {
    const Cursor<const float> cursor{from + l, lanes, gaps};
    if (l + kLanes <= samples) {
      unpack_rows<true>(cursor, kLanes, features, stride, to + l * stride);
    } else {
      unpack_rows<false>(cursor, samples - l, features, stride, to + l * stride);
    }
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
