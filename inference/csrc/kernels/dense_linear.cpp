#include "kernels/dense_linear.h"

#include "kernels/fused.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Registers of lanes beside kRowBlock rows of sums: with them 24 of the 32 registers of AVX-512 and NEON are sums, or 12 of
// 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::size_t kMostRegisters = 4;
#else
constexpr std::size_t kMostRegisters = 2;
#endif

// kRegisters registers of lanes of a block of rows, of which the first `rows` are stored.
template <std::size_t kWidth, std::size_t kRegisters, bool kRelu>
DWF_INLINE void multiply_block(const float* weights, const float* bias, std::size_t columns, std::size_t rows,
                               const float* from, float* to) {
  Lanes sums[kRowBlock][kRegisters];
  for (std::size_t r = 0; r < kRowBlock; ++r)
    for (std::size_t i = 0; i < kRegisters; ++i) sums[r][i] = broadcast(bias[r]);
  for (std::size_t k = 0; k < columns; ++k) {
    Lanes inputs[kRegisters];
    for (std::size_t i = 0; i < kRegisters; ++i) inputs[i] = load_aligned(from + k * kWidth + i * kLanes);
    for (std::size_t r = 0; r < kRowBlock; ++r)
      for (std::size_t i = 0; i < kRegisters; ++i) sums[r][i] += weights[k * kRowBlock + r] * inputs[i];
  }
  for (std::size_t r = 0; r < kRowBlock; ++r)
    if (r < rows)
      for (std::size_t i = 0; i < kRegisters; ++i)
        store_aligned(to + r * kWidth + i * kLanes, finish<kRelu>(sums[r][i]));
}

template <std::size_t kWidth, bool kRelu>
void multiply(const Blocks& blocks, const float* from, float* to) {
  constexpr std::size_t kAll = kWidth / kLanes;
  constexpr std::size_t kRegisters = kAll < kMostRegisters ? kAll : kMostRegisters;
  for (std::size_t row = 0; row < blocks.rows; row += kRowBlock)
    for (std::size_t i = 0; i < kAll; i += kRegisters)
      multiply_block<kWidth, kRegisters, kRelu>(blocks.weights + row * blocks.columns, blocks.bias + row, blocks.columns,
                                                blocks.rows - row, from + i * kLanes, to + row * kWidth + i * kLanes);
}

template <std::size_t kWidth>
void run(const Blocks& blocks, const float* from, Activation activation, float* to) {
  if (activation.function == Function::relu) {
    multiply<kWidth, true>(blocks, from, to);
  } else {
    multiply<kWidth, false>(blocks, from, to);
  }
  if (!is_cheap(activation.function)) activate(to, blocks.rows * kWidth, activation, to);
}

DWF_INLINE float total(Lanes lanes) {
  float parts[kLanes];
  store(parts, lanes);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

template <std::size_t kRows>
DWF_INLINE void multiply_rows(const float* weights, const float* bias, std::size_t columns, const float* from, bool relu,
                              float* to) {
  Lanes sums[kRows] = {};
  std::size_t k = 0;
  for (; k + kLanes <= columns; k += kLanes)
    for (std::size_t r = 0; r < kRows; ++r) sums[r] += load(weights + r * columns + k) * load(from + k);
  for (std::size_t r = 0; r < kRows; ++r) {
    float sum = total(sums[r]) + bias[r];
    for (std::size_t i = k; i < columns; ++i) sum += weights[r * columns + i] * from[i];
    to[r] = relu && sum < 0 ? 0 : sum;
  }
}

}  // namespace

void dense_linear(const Blocks& blocks, const float* from, std::size_t lanes, Activation activation, float* to) {
  switch (lanes) {
    case 16: return run<16>(blocks, from, activation, to);
    case 32: return run<32>(blocks, from, activation, to);
    case 64: return run<64>(blocks, from, activation, to);
  }
}

void dense_vector(const float* weights, const float* bias, std::size_t rows, std::size_t columns, const float* from,
                  bool relu, float* to) {
  constexpr std::size_t kRows = 4;
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    multiply_rows<kRows>(weights + row * columns, bias + row, columns, from, relu, to + row);
  for (; row < rows; ++row) multiply_rows<1>(weights + row * columns, bias + row, columns, from, relu, to + row);
}

}  // namespace DWF_ISA
}  // namespace dwf
