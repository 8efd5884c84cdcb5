#include "kernels/pool.h"

#include "kernels/lanes.h"

namespace dwf {
namespace DWF_ISA {
namespace {

struct Largest {
  DWF_INLINE Lanes start() { return broadcast(-__builtin_inff()); }
  DWF_INLINE Lanes join(Lanes a, Lanes b) { return select(a == a, at_least(b, a), a); }
  DWF_INLINE float join(float a, float b) { return a >= b || a != a ? a : b; }
  DWF_INLINE float scale(const Span&, const Span&) { return 1; }
};

struct Mean {
  DWF_INLINE Lanes start() { return Lanes{}; }
  DWF_INLINE Lanes join(Lanes a, Lanes b) { return a + b; }
  DWF_INLINE float join(float a, float b) { return a + b; }
  DWF_INLINE float scale(const Span& row, const Span& column) { return 1 / (row.divisor * column.divisor); }
};

template <class How>
void tile(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, std::size_t lanes,
          float* to) {
  for (std::size_t c = 0; c < pooling.channels; ++c)
    for (std::size_t y = 0; y < pooling.rows; ++y)
      for (std::size_t x = 0; x < pooling.columns; ++x) {
        const Span &row = rows[y], &column = columns[x];
        const float* const window =
            from + c * pooling.from_channel + row.first * pooling.from_row + column.first * lanes;
        float* const target = to + c * pooling.to_channel + y * pooling.to_row + x * lanes;
        const Lanes scale = broadcast(How::scale(row, column));
        for (std::size_t l = 0; l < lanes; l += kLanes) {
          Lanes result = How::start();
          for (std::size_t i = 0; i < row.count; ++i) {
            const float* const line = window + i * pooling.row_step * pooling.from_row + l;
            for (std::size_t k = 0; k < column.count; ++k)
              result = How::join(result, load_aligned(line + k * pooling.column_step * lanes));
          }
          store_aligned(target + l, result * scale);
        }
      }
}

// First down the columns of the window, side by side, then along what that left.
template <class How>
void single(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, float* scratch,
            float* to) {
  const float start = How::start()[0];
  for (std::size_t c = 0; c < pooling.channels; ++c)
    for (std::size_t y = 0; y < pooling.rows; ++y) {
      const Span& row = rows[y];
      const float* const first = from + c * pooling.from_channel + row.first * pooling.from_row;
      const std::size_t step = pooling.row_step * pooling.from_row;
      std::size_t x = 0;
      for (; x + kLanes <= pooling.width; x += kLanes) {
        Lanes result = How::start();
        for (std::size_t i = 0; i < row.count; ++i) result = How::join(result, load(first + i * step + x));
        store(scratch + x, result);
      }
      for (; x < pooling.width; ++x) {
        float result = start;
        for (std::size_t i = 0; i < row.count; ++i) result = How::join(result, first[i * step + x]);
        scratch[x] = result;
      }
      float* const target = to + c * pooling.to_channel + y * pooling.to_row;
      for (x = 0; x < pooling.columns; ++x) {
        const Span& column = columns[x];
        float result = start;
        for (std::size_t k = 0; k < column.count; ++k)
          result = How::join(result, scratch[column.first + k * pooling.column_step]);
        target[x] = result * How::scale(row, column);
      }
    }
}

}  // namespace

void pool_tile(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, std::size_t lanes,
               float* to) {
  (pooling.largest ? tile<Largest> : tile<Mean>)(pooling, rows, columns, from, lanes, to);
}

void pool_single(const Pooling& pooling, const Span* rows, const Span* columns, const float* from, float* scratch,
                 float* to) {
  (pooling.largest ? single<Largest> : single<Mean>)(pooling, rows, columns, from, scratch, to);
}

}  // namespace DWF_ISA
}  // namespace dwf
