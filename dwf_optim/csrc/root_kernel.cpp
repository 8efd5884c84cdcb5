// One step of a piece of a weight that has one root instead of factors (dwf_optim/roots.py), in one pass over memory.
//
// Tied: the root is kept. Ephemeral: it is taken from the weight. Compiled once per instruction set, like kernel.cpp.

#include <cstring>

#include "denormals.h"
#include "half.h"
#include "kernel.h"
#include "lanes.h"
#include "rule.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Elements worked on at a time; see kernel.cpp.
constexpr std::size_t kTile = 1024;
static_assert(kTile % kLanes == 0, "only the last tile of a slot may have a rest");

template <int D>
DWF_INLINE Lanes power(Lanes root) {
  Lanes raised = root;
  for (int d = 1; d < D; ++d) raised *= root;
  return raised;
}

// What the root stands for. At even depth the weight keeps its sign.
template <int D>
DWF_INLINE Lanes raise(Lanes root, Lanes weight) {
  return D % 2 ? power<D>(root) : with_sign(power<D>(root), weight);
}

// 1 - x y^D
template <int D>
DWF_INLINE Lanes one_less(Lanes x, Lanes y) {
  for (int d = 0; d < D; ++d) x *= y;
  return 1.0f - x;
}

// |w|^{-1/D} of normal numbers, to a few roundings and without a division. For zero it is finite and means nothing.
template <int D>
DWF_INLINE Lanes inverse_root(Lanes size) {
  // The bits of a float are its logarithm, off by at most 0.043 from what this takes, so h below is at most 3 %. Two
  // terms of (1 - h)^{-1/D} leave 0.31 h^3 = 9e-6, which one term more squares away.
  constexpr float kBias = 1065353216.0f - 361007.0f;  // 2^23 (127 - 0.043)
  const Lanes bits = __builtin_convertvector(reinterpret_cast<Mask>(size), Lanes);
  Lanes y = reinterpret_cast<Lanes>(__builtin_convertvector(kBias * (1 + 1.0f / D) - bits * (1.0f / D), Mask));
  Lanes h = one_less<D>(size, y);
  y *= 1.0f + h * (1.0f / D + h * (float(D + 1) / (2 * D * D)));
  h = one_less<D>(size, y);
  return y * (1.0f + h * (1.0f / D));
}

template <int D, Rule R, Storage S>
struct Tile {
  static constexpr int M = moments_of(R);
  float* root = nullptr;
  float* moments[M > 0 ? M : 1];

  Tile(const Slot& slot, std::size_t begin) {
    if constexpr (S == Storage::tied) root = slot.factors[0] + begin;
    for (int k = 0; k < M; ++k) moments[k] = slot.moments[k][0] + begin;
  }
};

// From the gradient by the weight to the new base state, and to the new root or weight, for the elements in lanes from i on.
template <int D, Rule R, Storage S>
DWF_INLINE void update(const Tile<D, R, S>& tile, const Options& o, const Slot& slot, const float* grad, float* weight,
                       std::size_t i) {
  constexpr int M = moments_of(R);
  const Lanes before = load(weight + i);
  Lanes moments[kMaxMoments] = {};
  for (int k = 0; k < M; ++k) moments[k] = load(tile.moments[k] + i);
  Lanes r, inverse;
  if constexpr (S == Storage::tied) {
    r = load(tile.root + i);
  } else {
    // A zero is one for good, whoever wrote it, also if the base still had momentum.
    const Mask zero = before == Lanes{};
    inverse = inverse_root<D>(magnitude(before));
    r = magnitude(before);
    for (int d = 1; d < D; ++d) r *= inverse;
    r = zero_where(zero, r);
    if constexpr (D % 2 == 1) r = with_sign(r, before);
    for (int k = 0; k < M; ++k) moments[k] = zero_where(zero, moments[k]);
  }
  Lanes g = o.sign * load(grad + i);
  if constexpr (D % 2 == 0) g = times_sign(g, before);
  for (int d = 1; d < D; ++d) g *= r;
  g += o.decay * r;
  Lanes f = advance<R>(r, g, moments, o, slot.rates[0], slot.roots[0]);
  const Mask dead = magnitude(f) < o.dead;  // false for NaN
  f = zero_where(dead, f);
  for (int k = 0; k < M; ++k) moments[k] = zero_where(dead, moments[k]);
  if constexpr (S == Storage::tied) {
    store(tile.root + i, f);
  } else {
    // By the ratio of the roots, as one and a bit: so a weight that does not move keeps its bits, and the error of
    // the root is felt in the size of a move only.
    const Lanes move = D % 2 ? times_sign(f - r, before) : f - r, ratio = 1.0f + move * inverse;
    Lanes after = before;
    for (int d = 0; d < D; ++d) after *= ratio;
    store(weight + i, zero_where(dead, after));
    // At even depth the root is taken positive next time, so what is odd in the base's state is mirrored.
    if constexpr (D % 2 == 0 && M > 0) moments[0] = ratio < 0.0f ? -moments[0] : moments[0];
  }
  for (int k = 0; k < M; ++k) store(tile.moments[k] + i, moments[k]);
}

template <class Half>
bool agrees_half(const float* held, const std::uint16_t* weight, std::size_t size) {
  std::uint16_t narrowed[kTile];
  narrow<Half>(held, size, narrowed);
  return same_halves<Half>(weight, narrowed, size);
}

// Steps whole lanes, or nothing if the weight is not what the root stands for: compared first, written last.
template <int D, Rule R, Storage S>
[[gnu::noinline]] bool step_tile(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  const Tile<D, R, S> tile(slot, begin);
  float widened_weight[kTile], widened_grad[kTile], held[kTile];
  std::uint16_t* const half_weight = static_cast<std::uint16_t*>(slot.weight) + begin;
  const std::uint16_t* const half_grad = static_cast<const std::uint16_t*>(slot.grad) + begin;
  float* weight = widened_weight;
  const float* grad = widened_grad;
  switch (slot.weight_type) {
    case Type::f32: weight = static_cast<float*>(slot.weight) + begin; break;
    case Type::bf16: widen<Bf16>(half_weight, size, widened_weight); break;
    case Type::f16: widen<F16>(half_weight, size, widened_weight); break;
  }
  if (S == Storage::tied && options.compare) {
    Mask differing{};
    for (std::size_t i = 0; i < size; i += kLanes) {
      const Lanes now = load(weight + i), then = raise<D>(load(tile.root + i), now);
      // NaN is unequal to itself; that both are NaN is no difference.
      differing |= (now != then) & ((now == now) | (then == then));
      if (slot.weight_type != Type::f32) store(held + i, then);
    }
    const bool same = slot.weight_type == Type::f32    ? !any(differing)
                      : slot.weight_type == Type::bf16 ? agrees_half<Bf16>(held, half_weight, size)
                                                       : agrees_half<F16>(held, half_weight, size);
    if (!same) return false;
  }
  switch (slot.grad_type) {
    case Type::f32: grad = static_cast<const float*>(slot.grad) + begin; break;
    case Type::bf16: widen<Bf16>(half_grad, size, widened_grad); break;
    case Type::f16: widen<F16>(half_grad, size, widened_grad); break;
  }
  {
    const Denormals mode(options.flush);
    for (std::size_t i = 0; i < size; i += kLanes) update<D, R, S>(tile, options, slot, grad, weight, i);
  }
  if (S == Storage::tied)
    for (std::size_t i = 0; i < size; i += kLanes) store(weight + i, raise<D>(load(tile.root + i), load(weight + i)));
  switch (slot.weight_type) {
    case Type::f32: break;
    case Type::bf16: narrow<Bf16>(weight, size, half_weight); break;
    case Type::f16: narrow<F16>(weight, size, half_weight); break;
  }
  return true;
}

// The same for less than a register's width, on a copy filled up with zeros.
template <int D, Rule R, Storage S>
bool step_rest(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  constexpr int M = moments_of(R);
  const std::size_t weight_bytes = bytes_of(slot.weight_type), grad_bytes = bytes_of(slot.grad_type);
  float root[kLanes] = {}, moments[M > 0 ? M : 1][kLanes] = {}, weight[kLanes] = {}, grad[kLanes] = {};
  Slot copy = slot;
  char* const outside = static_cast<char*>(slot.weight) + begin * weight_bytes;
  std::memcpy(weight, outside, size * weight_bytes);
  std::memcpy(grad, static_cast<const char*>(slot.grad) + begin * grad_bytes, size * grad_bytes);
  copy.weight = weight;
  copy.grad = grad;
  if (S == Storage::tied) {
    std::memcpy(root, slot.factors[0] + begin, size * sizeof(float));
    copy.factors[0] = root;
  }
  for (int k = 0; k < M; ++k) {
    std::memcpy(moments[k], slot.moments[k][0] + begin, size * sizeof(float));
    copy.moments[k][0] = moments[k];
  }
  if (!step_tile<D, R, S>(copy, options, 0, kLanes)) return false;
  std::memcpy(outside, weight, size * weight_bytes);
  if (S == Storage::tied) std::memcpy(slot.factors[0] + begin, root, size * sizeof(float));
  for (int k = 0; k < M; ++k) std::memcpy(slot.moments[k][0] + begin, moments[k], size * sizeof(float));
  return true;
}

template <int D, Rule R, Storage S>
std::size_t step(const Slot& slot, const Options& options, std::size_t begin, std::size_t end) {
  const Denormals exact(false);
  while (begin < end) {
    const std::size_t left = end - begin, whole = left < kTile ? left / kLanes * kLanes : kTile;
    const std::size_t size = whole > 0 ? whole : left;
    const bool stepped =
        whole > 0 ? step_tile<D, R, S>(slot, options, begin, size) : step_rest<D, R, S>(slot, options, begin, size);
    if (!stepped) return begin;
    begin += size;
  }
  return end;
}

template <Rule R, Storage S>
Kernel at_depth(int depth) {
  switch (depth) {
    case 2: return step<2, R, S>;
    case 3: return step<3, R, S>;
    case 4: return step<4, R, S>;
    case 5: return step<5, R, S>;
    case 6: return step<6, R, S>;
    case 7: return step<7, R, S>;
    case 8: return step<8, R, S>;
  }
  return nullptr;
}

template <Storage S>
Kernel at_rule(Rule rule, int depth) {
  switch (rule) {
    case Rule::sgd: return at_depth<Rule::sgd, S>(depth);
    case Rule::momentum: return at_depth<Rule::momentum, S>(depth);
    case Rule::adam: return at_depth<Rule::adam, S>(depth);
    case Rule::amsgrad: return at_depth<Rule::amsgrad, S>(depth);
  }
  return nullptr;
}

}  // namespace

Kernel root_kernel(Rule rule, int depth, Storage storage) {
  return storage == Storage::tied ? at_rule<Storage::tied>(rule, depth) : at_rule<Storage::ephemeral>(rule, depth);
}

}  // namespace DWF_ISA
}  // namespace dwf
