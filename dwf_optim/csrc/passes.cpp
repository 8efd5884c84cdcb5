// The passes around a base's step (passes.h), as loops over one number after the other that the compiler vectorizes.
//
// This file is compiled once per instruction set, like kernel.cpp, and for the same reason calls no inline function from
// outside the set's namespace.

#include "passes.h"

#include "half.h"
#include "kernel.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Elements worked on at a time, so that a tile of a few tensors stays in the first cache.
constexpr std::size_t kTile = 1024;

static inline float magnitude(float number) { return float_of(bits_of(number) & 0x7fffffff); }

// As dwf_optim/factors.py's `factor_gradients`, multiplication by multiplication.
template <int D>
void tile_gradients(float* const (&factors)[D], const float* grad, float decay, std::size_t size, float* const (&out)[D]) {
#pragma omp simd
  for (std::size_t i = 0; i < size; ++i) {
    float f[D], g[D];
    for (int d = 0; d < D; ++d) f[d] = factors[d][i];
    g[0] = grad[i];
    for (int d = 1; d < D; ++d) g[d] = g[d - 1] * f[d - 1];
    float right = f[D - 1];
    for (int d = D - 2; d >= 0; --d) {
      g[d] *= right;
      right *= f[d];
    }
    for (int d = 0; d < D; ++d) out[d][i] = decay == 0 ? g[d] : g[d] + decay * f[d];
  }
}

// Multiplies in the order that is part of the state's format, from the first factor to the last. Returns whether there are
// elements of which all factors are below the bound; NaN is not.
template <int D>
bool tile_product(float* const (&factors)[D], float bound, std::size_t size, float* out) {
  std::uint32_t found = 0;
#pragma omp simd reduction(| : found)
  for (std::size_t i = 0; i < size; ++i) {
    float weight = factors[0][i];
    std::uint32_t dead = magnitude(weight) < bound ? 1 : 0;
    for (int d = 1; d < D; ++d) {
      const float factor = factors[d][i];
      weight *= factor;
      dead &= magnitude(factor) < bound ? 1 : 0;
    }
    out[i] = weight;
    found |= dead;
  }
  return found != 0;
}

// Marks these elements by all bits.
template <int D>
void mark_dead(float* const (&factors)[D], float bound, std::size_t size, std::uint32_t* dead) {
#pragma omp simd
  for (std::size_t i = 0; i < size; ++i) {
    std::uint32_t all = ~std::uint32_t{0};
    for (int d = 0; d < D; ++d) all &= magnitude(factors[d][i]) < bound ? ~std::uint32_t{0} : 0;
    dead[i] = all;
  }
}

void zero_where(const std::uint32_t* dead, std::size_t size, float* numbers) {
#pragma omp simd
  for (std::size_t i = 0; i < size; ++i) numbers[i] = float_of(bits_of(numbers[i]) & ~dead[i]);
}

template <int D>
void gradients(const Block& block, float decay, std::size_t begin, std::size_t end) {
  float widened[kTile];
  float *factors[D], *out[D];
  for (; begin < end; begin += kTile) {
    const std::size_t size = end - begin < kTile ? end - begin : kTile;
    for (int d = 0; d < D; ++d) {
      factors[d] = block.factors[d] + begin;
      out[d] = block.gradients[d] + begin;
    }
    const float* grad = widened;
    const std::uint16_t* const half = static_cast<const std::uint16_t*>(block.grad) + begin;
    switch (block.grad_type) {
      case Type::f32: grad = static_cast<const float*>(block.grad) + begin; break;
      case Type::bf16: widen<Bf16>(half, size, widened); break;
      case Type::f16: widen<F16>(half, size, widened); break;
    }
    tile_gradients<D>(factors, grad, decay, size, out);
  }
}

template <int D>
void finish(const Block& block, float bound, std::size_t begin, std::size_t end) {
  std::uint32_t dead[kTile];
  float exact[kTile];
  float* factors[D];
  for (; begin < end; begin += kTile) {
    const std::size_t size = end - begin < kTile ? end - begin : kTile;
    for (int d = 0; d < D; ++d) factors[d] = block.factors[d] + begin;
    float* const out = block.weight_type == Type::f32 ? static_cast<float*>(block.weight) + begin : exact;
    if (tile_product<D>(factors, bound, size, out)) {
      mark_dead<D>(factors, bound, size, dead);
      for (float* factor : factors) zero_where(dead, size, factor);
      for (std::size_t k = 0; k < block.states; ++k) zero_where(dead, size, block.state[k] + begin);
      zero_where(dead, size, out);
    }
    std::uint16_t* const half = static_cast<std::uint16_t*>(block.weight) + begin;
    switch (block.weight_type) {
      case Type::f32: break;
      case Type::bf16: narrow<Bf16>(exact, size, half); break;
      case Type::f16: narrow<F16>(exact, size, half); break;
    }
  }
}

}  // namespace

Passes passes(int depth) {
  switch (depth) {
    case 2: return {gradients<2>, finish<2>};
    case 3: return {gradients<3>, finish<3>};
    case 4: return {gradients<4>, finish<4>};
    case 5: return {gradients<5>, finish<5>};
    case 6: return {gradients<6>, finish<6>};
    case 7: return {gradients<7>, finish<7>};
    case 8: return {gradients<8>, finish<8>};
  }
  return {};
}

}  // namespace DWF_ISA
}  // namespace dwf
