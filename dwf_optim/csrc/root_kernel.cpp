// One step of a piece of a weight that has one root instead of factors (dwf_optim/roots.py), in one pass over memory.
//
// Tied: the root is kept. Ephemeral: it is taken from the weight. Compiled once per instruction set, like kernel.cpp.

#include <cstring>

#include "denormals.h"
#include "half.h"
#include "kernel.h"
#include "lanes.h"
#include "roots.h"
#include "rule.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Registers that are stepped side by side: a step is a long chain of results that wait for each other.
constexpr int kSideBySide = kRegister == 64 ? 4 : 2;
constexpr std::size_t kPack = kSideBySide * kLanes;
using Pack = Lanes[kSideBySide];

// How far ahead memory is asked for: measured, as in kernel.cpp.
constexpr std::size_t kAhead = 256;

// Elements worked on at a time where numbers are converted; see kernel.cpp.
constexpr std::size_t kTile = 1024;
static_assert(kTile % kPack == 0, "only the last tile of a slot may have a rest");

DWF_INLINE void load_pack(const float* from, Pack& pack) {
  for (int n = 0; n < kSideBySide; ++n) pack[n] = load(from + n * kLanes);
}

// The tensors of a slot from the first element of a tile on.
template <Rule R, Storage S>
struct Tile {
  static constexpr int M = moments_of(R);
  float* weight;
  const float* grad;
  float* root = nullptr;
  float* moments[M > 0 ? M : 1];

  Tile(const Slot& slot, std::size_t begin, float* weight, const float* grad) : weight(weight), grad(grad) {
    if constexpr (S == Storage::tied) root = slot.factors[0] + begin;
    for (int k = 0; k < M; ++k) moments[k] = slot.moments[k][0] + begin;
  }

  DWF_INLINE_MEMBER void ask_ahead_of(std::size_t begin) const {
    for (std::size_t i = begin + kAhead; i < begin + kAhead + kPack; i += kLanes) {
      ask_for(weight, i);
      ask_for(grad, i);
      if constexpr (S == Storage::tied) ask_for(root, i);
      for (int k = 0; k < M; ++k) ask_for(moments[k], i);
    }
  }
};

// Steps the root, the base's state and the weight, a pack of them from i on; nothing if the weight is, in some bit, not
// what the root stands for. Returns whether it did.
template <int D, Rule R>
DWF_INLINE bool step_pack(const Tile<R, Storage::tied>& tile, const Options& o, const Slot& slot, const Depth<D>& depth,
                          bool compare, std::size_t i) {
  constexpr int M = moments_of(R);
  Pack weight, root;
  load_pack(tile.weight + i, weight);
  load_pack(tile.root + i, root);
  if (compare) {
    bool same = true;
    for (int n = 0; n < kSideBySide; ++n) same &= same_bits(weight[n], power(root[n], depth.sign_apart(weight[n]), depth));
    if (!same) return false;
  }
  for (int n = 0; n < kSideBySide; ++n) {
    const std::size_t at = i + n * kLanes;
    const Mask apart = depth.sign_apart(weight[n]);
    Lanes g = flip(o.sign * load(tile.grad + at), apart);
    for (int d = 1; d < depth; ++d) g *= root[n];
    g += o.decay * root[n];
    Lanes moments[kMaxMoments] = {};
    for (int k = 0; k < M; ++k) moments[k] = load(tile.moments[k] + at);
    const Lanes after = root[n] - move_by<R>(g, moments, o, slot.rates[0], slot.corrections[0]);
    const Mask dead = magnitude(after) < o.dead;  // false for NaN
    root[n] = zero_where(dead, after);
    for (int k = 0; k < M; ++k) store(tile.moments[k] + at, zero_where(dead, moments[k]));
    store(tile.root + at, root[n]);
    store(tile.weight + at, power(root[n], apart, depth));
  }
  return true;
}

// The same where the root is taken from the weight. The weight is moved by the ratio of the roots, (1 - move / root)^D,
// so one that does not move keeps its bits, and the error of the root is felt in the size of a move only.
template <int D, Rule R>
DWF_INLINE void step_pack(const Tile<R, Storage::ephemeral>& tile, const Options& o, const Slot& slot,
                          const Depth<D>& depth, const InverseRoot<D>& inverse_root, std::size_t i) {
  constexpr int M = moments_of(R);
  Pack weight, inverse;
  load_pack(tile.weight + i, weight);
  inverse_root(weight, inverse, depth);
  for (int n = 0; n < kSideBySide; ++n) {
    const std::size_t at = i + n * kLanes;
    // root^{D-1}; at even depth with the sign that the weight has apart
    const Lanes others = weight[n] * inverse[n];
    Lanes root = depth.odd() ? others : magnitude(others);
    for (int d = 2; d < depth; ++d) root *= inverse[n];
    const Lanes g = o.sign * load(tile.grad + at) * others + o.decay * root;
    // A zero is one for good, whoever wrote it, also if the base still had momentum.
    const Mask zero = weight[n] == Lanes{};
    Lanes moments[kMaxMoments] = {};
    for (int k = 0; k < M; ++k) moments[k] = zero_where(zero, load(tile.moments[k] + at));
    const Lanes ratio = 1.0f - move_by<R>(g, moments, o, slot.rates[0], slot.corrections[0]) * inverse[n];
    Lanes after = weight[n];
    for (int d = 0; d < depth; ++d) after *= ratio;
    store(tile.weight + at, after);
    // At even depth the root is taken positive next time, so what is odd in the base's state is mirrored.
    if (M > 0 && !depth.odd()) moments[0] = flip(moments[0], sign_bits(ratio));
    // Denormals are flushed, so a weight is zero when its root falls below FLT_MIN^{1/D}.
    const Mask dead = after == Lanes{};  // false for NaN
    for (int k = 0; k < M; ++k) store(tile.moments[k] + at, zero_where(dead, moments[k]));
  }
}

// Steps whole packs from begin on, up to the first that differs where they are compared. Returns where it stopped.
template <int D, Rule R, Storage S>
DWF_INLINE std::size_t step_while_same(const Tile<R, S>& tile, const Options& options, const Slot& slot, bool compare,
                                       std::size_t begin, std::size_t end) {
  const Denormals mode(options.flush);
  const Depth<D> depth(options.depth);
  if constexpr (S == Storage::tied) {
    for (std::size_t i = begin; i < end; i += kPack) {
      tile.ask_ahead_of(i);
      if (!step_pack<D, R>(tile, options, slot, depth, compare, i)) return i;
    }
  } else {
    const InverseRoot<D> inverse_root(depth);
    for (std::size_t i = begin; i < end; i += kPack) {
      tile.ask_ahead_of(i);
      step_pack<D, R>(tile, options, slot, depth, inverse_root, i);
    }
  }
  return end;
}

// What the roots stand for. NaN is unequal to itself; that both are NaN is no difference.
template <int D>
bool agrees(const float* root, const float* weight, std::size_t begin, std::size_t end, const Depth<D>& depth) {
  Mask differing{};
  for (std::size_t i = begin; i < end; i += kLanes) {
    const Lanes now = load(weight + i), held = power(load(root + i), depth.sign_apart(now), depth);
    differing |= (now != held) & ((now == now) | (held == held));
  }
  return !any(differing);
}

template <int D, class Half>
bool agrees_half(const float* root, const float* weight, const std::uint16_t* half_weight, std::size_t size,
                 const Depth<D>& depth) {
  float exact[kTile];
  std::uint16_t held[kTile];
  for (std::size_t i = 0; i < size; i += kLanes)
    store(exact + i, power(load(root + i), depth.sign_apart(load(weight + i)), depth));
  narrow<Half>(exact, size, held);
  return same_halves<Half>(half_weight, held, size);
}

// Steps whole packs and returns how many elements; it stops where the weight is not what the root stands for.
template <int D, Rule R, Storage S>
[[gnu::noinline]] std::size_t step_tile(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  float widened_weight[S == Storage::tied ? kTile : 1], widened_grad[kTile];
  std::uint16_t* const half_weight = static_cast<std::uint16_t*>(slot.weight) + begin;
  const std::uint16_t* const half_grad = static_cast<const std::uint16_t*>(slot.grad) + begin;
  float* weight = static_cast<float*>(slot.weight) + begin;
  const float* grad = static_cast<const float*>(slot.grad) + begin;
  const bool is_half = S == Storage::tied && slot.weight_type != Type::f32;
  if (is_half) {
    weight = widened_weight;
    slot.weight_type == Type::bf16 ? widen<Bf16>(half_weight, size, weight) : widen<F16>(half_weight, size, weight);
  }
  if (slot.grad_type != Type::f32) {
    grad = widened_grad;
    slot.grad_type == Type::bf16 ? widen<Bf16>(half_grad, size, widened_grad) : widen<F16>(half_grad, size, widened_grad);
  }
  const Tile<R, S> tile(slot, begin, weight, grad);
  std::size_t done = 0;
  if (S == Storage::tied && options.compare) {
    const Depth<D> depth(options.depth);
    if (is_half) {
      const bool same = slot.weight_type == Type::bf16 ? agrees_half<D, Bf16>(tile.root, weight, half_weight, size, depth)
                                                       : agrees_half<D, F16>(tile.root, weight, half_weight, size, depth);
      if (!same) return 0;
    } else {
      done = step_while_same<D>(tile, options, slot, true, 0, size);
      // Flushed denormals, zeros of another sign and NaN differ in bits and may still agree.
      if (done < size && !agrees<D>(tile.root, weight, done, size, depth)) return done;
    }
  }
  step_while_same<D>(tile, options, slot, false, done, size);
  if (is_half)
    slot.weight_type == Type::bf16 ? narrow<Bf16>(weight, size, half_weight) : narrow<F16>(weight, size, half_weight);
  return size;
}

// The same for less than a pack, on a copy filled up with zeros.
template <int D, Rule R, Storage S>
std::size_t step_rest(const Slot& slot, const Options& options, std::size_t begin, std::size_t size) {
  constexpr int M = moments_of(R);
  const std::size_t weight_bytes = bytes_of(slot.weight_type), grad_bytes = bytes_of(slot.grad_type);
  float root[kPack] = {}, moments[M > 0 ? M : 1][kPack] = {}, weight[kPack] = {}, grad[kPack] = {};
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
  if (step_tile<D, R, S>(copy, options, 0, kPack) == 0) return 0;
  std::memcpy(outside, weight, size * weight_bytes);
  if (S == Storage::tied) std::memcpy(slot.factors[0] + begin, root, size * sizeof(float));
  for (int k = 0; k < M; ++k) std::memcpy(slot.moments[k][0] + begin, moments[k], size * sizeof(float));
  return size;
}

template <int D, Rule R, Storage S>
std::size_t step(const Slot& slot, const Options& options, std::size_t begin, std::size_t end) {
  const Denormals exact(false);
  while (begin < end) {
    const std::size_t left = end - begin, whole = left < kTile ? left / kPack * kPack : kTile;
    const std::size_t size = whole > 0 ? whole : left;
    const std::size_t stepped =
        whole > 0 ? step_tile<D, R, S>(slot, options, begin, size) : step_rest<D, R, S>(slot, options, begin, size);
    begin += stepped;
    if (stepped < size) return begin;
  }
  return end;
}

template <Rule R, Storage S>
Kernel at_depth(int depth) {
  switch (depth) {
    case 2: return step<2, R, S>;
    case 3: return step<3, R, S>;
    case 4: return step<4, R, S>;
  }
  return step<0, R, S>;
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
