// One step of a piece of a factorized weight, in one pass over memory.
//
// This file is compiled once per instruction set, with DWF_ISA naming it. It calls no inline function from outside the set's
// namespace, not even std::min: where one is not inlined, the linker keeps one copy for all sets.

#include "kernel.h"

#include <cstring>

#include "denormals.h"
#include "half.h"
#include "lanes.h"
#include "rule.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Elements worked on at a time: the pieces of all tensors (D = 3 with momentum: 8 of them) stay in the first cache
// between the loops over them.
constexpr std::size_t kTile = 1024;
static_assert(kTile % kLanes == 0, "only the last tile of a slot may have a rest");

// How many elements ahead memory is asked for. Measured: more would no longer be there when it is needed.
constexpr std::size_t kAhead = 128;

template <int D>
using Factors = float* const (&)[D];

// The product in the order that is part of the state's format: from the first to the last.
template <int D>
DWF_INLINE Lanes product(Factors<D> factors, std::size_t i) {
  Lanes weight = load(factors[0] + i);
  for (int d = 1; d < D; ++d) weight *= load(factors[d] + i);
  return weight;
}

template <int D>
void multiply(Factors<D> factors, std::size_t size, float* out) {
  for (std::size_t i = 0; i < size; i += kLanes) store(out + i, product<D>(factors, i));
}

template <int D, class Half>
void multiply_half(Factors<D> factors, std::size_t size, std::uint16_t* out) {
  float exact[kTile];
  multiply<D>(factors, size, exact);
  narrow<Half>(exact, size, out);
}

template <int D>
bool agrees(Factors<D> factors, std::size_t begin, std::size_t end, const float* weight) {
  Mask differing{};
  for (std::size_t i = begin; i < end; i += kLanes) {
    const Lanes now = load(weight + i), held = product<D>(factors, i);
    // NaN is unequal to itself; that both are NaN is no difference.
    differing |= (now != held) & ((now == now) | (held == held));
  }
  return !any(differing);
}

template <int D, class Half>
bool agrees_half(Factors<D> factors, std::size_t size, const std::uint16_t* weight) {
  std::uint16_t held[kTile];
  multiply_half<D, Half>(factors, size, held);
  return same_halves<Half>(weight, held, size);
}

// The tensors of a slot from the first element of a tile on.
template <int D, Rule R>
struct Tile {
  static constexpr int M = moments_of(R);
  float* factors[D];
  float* moments[M > 0 ? M : 1][D];

  Tile(const Slot& slot, std::size_t begin) {
    for (int d = 0; d < D; ++d) {
      factors[d] = slot.factors[d] + begin;
      for (int k = 0; k < M; ++k) moments[k][d] = slot.moments[k][d] + begin;
    }
  }

  DWF_INLINE_MEMBER void ask_for_all(std::size_t i) const {
    for (int d = 0; d < D; ++d) {
      ask_for(factors[d], i);
      for (int k = 0; k < M; ++k) ask_for(moments[k][d], i);
    }
  }
};

// From the gradient by the weight to the new factors and base state, for the elements in lanes from i on.
template <int D, Rule R>
DWF_INLINE void update(const Tile<D, R>& tile, const Options& o, const Slot& slot, const float* grad, std::size_t i) {
  constexpr int M = Tile<D, R>::M;
  Lanes f[D], g[D], moments[D][kMaxMoments] = {};
  for (int d = 0; d < D; ++d) f[d] = load(tile.factors[d] + i);
  // Leave-one-out products: a running product from the left meets one from the right.
  g[0] = o.sign * load(grad + i);
  for (int d = 1; d < D; ++d) g[d] = g[d - 1] * f[d - 1];
  Lanes right = f[D - 1];
  for (int d = D - 2; d >= 0; --d) {
    g[d] *= right;
    right *= f[d];
  }
  Mask dead = ~Mask{};
  for (int d = 0; d < D; ++d) {
    g[d] += o.decay * f[d];
    for (int k = 0; k < M; ++k) moments[d][k] = load(tile.moments[k][d] + i);
    f[d] -= move_by<R>(g[d], moments[d], o, slot.rates[d], slot.corrections[d]);
    dead &= magnitude(f[d]) < o.dead;  // false for NaN
  }
  for (int d = 0; d < D; ++d) {
    store(tile.factors[d] + i, zero_where(dead, f[d]));
    for (int k = 0; k < M; ++k) store(tile.moments[k][d] + i, zero_where(dead, moments[d][k]));
  }
}

// Steps whole lanes from begin on, up to the first whose weight is not, to the bit, the product of its factors; to the
// end where they are not compared. Returns where it stopped.
template <int D, Rule R, bool kCompare>
std::size_t update_while_same(const Tile<D, R>& tile, const Options& options, const Slot& slot, const float* grad,
                              const float* weight, std::size_t begin, std::size_t end) {
  const Denormals mode(options.flush);
  for (std::size_t i = begin; i < end; i += kLanes) {
    tile.ask_for_all(i + kAhead);
    ask_for(grad, i + kAhead);
    ask_for(weight, i + kAhead);
    if (kCompare && !same_bits(load(weight + i), product<D>(tile.factors, i))) return i;
    update<D, R>(tile, options, slot, grad, i);
  }
  return end;
}

// Steps whole lanes and returns how many elements; it stops where the weight is not the product of its factors.
template <int D, Rule R>
std::size_t step_tile(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  const Tile<D, R> tile(slot, begin);
  float* const weight = static_cast<float*>(slot.weight) + begin;
  std::uint16_t* const half_weight = static_cast<std::uint16_t*>(slot.weight) + begin;
  const bool is_half = slot.weight_type != Type::f32;
  if (options.compare && is_half) {
    const bool same = slot.weight_type == Type::bf16 ? agrees_half<D, Bf16>(tile.factors, size, half_weight)
                                                     : agrees_half<D, F16>(tile.factors, size, half_weight);
    if (!same) return 0;
  }
  float widened[kTile];
  const float* grad = widened;
  const std::uint16_t* const half_grad = static_cast<const std::uint16_t*>(slot.grad) + begin;
  switch (slot.grad_type) {
    case Type::f32: grad = static_cast<const float*>(slot.grad) + begin; break;
    case Type::bf16: widen<Bf16>(half_grad, size, widened); break;
    case Type::f16: widen<F16>(half_grad, size, widened); break;
  }
  std::size_t done = 0;
  if (options.compare && !is_half) {
    done = update_while_same<D, R, true>(tile, options, slot, grad, weight, 0, size);
    // Flushed denormals, zeros of another sign and NaN differ in bits and may still agree.
    if (done < size && !agrees<D>(tile.factors, done, size, weight)) {
      multiply<D>(tile.factors, done, weight);
      return done;
    }
  }
  update_while_same<D, R, false>(tile, options, slot, grad, weight, done, size);
  switch (slot.weight_type) {
    case Type::f32: multiply<D>(tile.factors, size, weight); break;
    case Type::bf16: multiply_half<D, Bf16>(tile.factors, size, half_weight); break;
    case Type::f16: multiply_half<D, F16>(tile.factors, size, half_weight); break;
  }
  return size;
}

// The same for less than a register's width, on a copy filled up with zeros: so the arithmetic of an element does not
// depend on where it stands.
template <int D, Rule R>
std::size_t step_rest(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  constexpr int M = moments_of(R);
  const std::size_t weight_bytes = bytes_of(slot.weight_type), grad_bytes = bytes_of(slot.grad_type);
  float factors[D][kLanes] = {}, moments[M > 0 ? M : 1][D][kLanes] = {}, weight[kLanes] = {}, grad[kLanes] = {};
  Slot copy = slot;
  char* const outside = static_cast<char*>(slot.weight) + begin * weight_bytes;
  std::memcpy(weight, outside, size * weight_bytes);
  std::memcpy(grad, static_cast<const char*>(slot.grad) + begin * grad_bytes, size * grad_bytes);
  copy.weight = weight;
  copy.grad = grad;
  for (int d = 0; d < D; ++d) {
    std::memcpy(factors[d], slot.factors[d] + begin, size * sizeof(float));
    copy.factors[d] = factors[d];
    for (int k = 0; k < M; ++k) {
      std::memcpy(moments[k][d], slot.moments[k][d] + begin, size * sizeof(float));
      copy.moments[k][d] = moments[k][d];
    }
  }
  if (step_tile<D, R>(copy, options, 0, kLanes) == 0) return 0;
  std::memcpy(outside, weight, size * weight_bytes);
  for (int d = 0; d < D; ++d) {
    std::memcpy(slot.factors[d] + begin, factors[d], size * sizeof(float));
    for (int k = 0; k < M; ++k) std::memcpy(slot.moments[k][d] + begin, moments[k][d], size * sizeof(float));
  }
  return size;
}

template <int D, Rule R>
std::size_t step(const Slot& slot, const Options& options, std::size_t begin, std::size_t end) {
  const Denormals exact(false);
  while (begin < end) {
    const std::size_t left = end - begin, whole = left < kTile ? left / kLanes * kLanes : kTile;
    const std::size_t size = whole > 0 ? whole : left;
    const std::size_t stepped =
        whole > 0 ? step_tile<D, R>(slot, options, begin, size) : step_rest<D, R>(slot, options, begin, size);
    begin += stepped;
    if (stepped < size) return begin;
  }
  return end;
}

template <Rule R>
Kernel at_depth(int depth) {
  switch (depth) {
    case 2: return step<2, R>;
    case 3: return step<3, R>;
    case 4: return step<4, R>;
    case 5: return step<5, R>;
    case 6: return step<6, R>;
    case 7: return step<7, R>;
    case 8: return step<8, R>;
  }
  return nullptr;
}

}  // namespace

Kernel kernel(Rule rule, int depth) {
  switch (rule) {
    case Rule::sgd: return at_depth<Rule::sgd>(depth);
    case Rule::momentum: return at_depth<Rule::momentum>(depth);
    case Rule::adam: return at_depth<Rule::adam>(depth);
    case Rule::amsgrad: return at_depth<Rule::amsgrad>(depth);
  }
  return nullptr;
}

}  // namespace DWF_ISA
}  // namespace dwf
